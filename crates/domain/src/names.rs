//! The names of what there are several of: in JSON, in the database, in queries.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;

use crate::{
    AlertMeasure, AlertState, CreditType, EventType, GrantSource, GrantState, HoldState, MovementKind,
    OrganizationStatus, PlanPeriod, TopUpState, UsageBucket,
};

/// Each has a name of its own, by which it is found, and nothing else is.
fn each_is_found<T: Copy + Debug + PartialEq>(all: &[T], name: fn(T) -> &'static str, find: fn(&str) -> Option<T>) {
    for one in all {
        assert_eq!(find(name(*one)), Some(*one));
    }
    let names: BTreeSet<_> = all.iter().map(|one| name(*one)).collect();
    assert_eq!(names.len(), all.len(), "{names:?}");
    assert!(!names.contains(""));
    assert_eq!(find(""), None);
    assert_eq!(find(&format!("{}s", name(all[0]))), None);
}

/// The name in JSON is the same.
fn is_that_of_json<T: Copy + Serialize>(all: &[T], name: fn(T) -> &'static str) {
    for one in all {
        assert_eq!(serde_json::to_value(one).unwrap(), name(*one));
    }
}

macro_rules! names {
    ($($type:ident)+) => {$(
        each_is_found(&$type::ALL, $type::as_str, $type::from_name);
        is_that_of_json(&$type::ALL, $type::as_str);
    )+};
}

#[test]
fn everything_is_found_by_its_name() {
    names! {
        AlertMeasure AlertState EventType GrantSource GrantState HoldState MovementKind OrganizationStatus PlanPeriod
        TopUpState
    }
    each_is_found(&CreditType::ALL, CreditType::as_str, CreditType::from_name);
    each_is_found(&UsageBucket::ALL, UsageBucket::as_str, UsageBucket::from_name);
}
