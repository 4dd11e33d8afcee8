//! The licences of everything that is built, against the list in `deny.toml`: what `make deny` checks as well, without a
//! program that a machine would have to get first.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::process::Command;

const DENY: &str = include_str!("../../deny.toml");

/// The licences that are allowed.
fn allowed() -> BTreeSet<&'static str> {
    let (_, list) = DENY.split_once("\nallow = [").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    list.lines().filter_map(|line| line.split('"').nth(1)).collect()
}

/// Whether an expression can be met by what is allowed. <https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>;
/// a slash is how `OR` was written before there were expressions.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    assert_eq!(words.next(), None, "{expression}");
    met
}

fn any<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let word = words.next().unwrap_or_default();
    if word == "(" {
        let met = any(words, allowed);
        assert_eq!(words.next(), Some(")"), "a parenthesis is not closed");
        return met;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(&*format!("{word} WITH {exception}")),
        None => allowed.contains(word),
    }
}

#[test]
fn everything_that_is_built_has_a_licence_that_is_allowed() {
    let arguments =
        ["tree", "--workspace", "--offline", "--locked", "--prefix=none", "--no-dedupe", "--format={l}|{p}"];
    let tree = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<(&str, &str)> = tree.lines().filter_map(|line| line.split_once('|')).collect();
    assert!(packages.len() > 100, "{packages:#?}");

    let allowed = allowed();
    let others: Vec<_> = packages.iter().filter(|(licence, _)| !is_allowed(licence, &allowed)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn an_expression_is_met_by_what_is_allowed_or_not() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for expression in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only/MIT",
        "MIT AND ISC",
        "GPL-3.0-only OR MIT AND ISC",
        "(GPL-3.0-only OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR ISC) AND GPL-3.0-only",
        "GPL-3.0-only OR MIT AND Apache-2.0",
        "Apache-2.0",
        "MIT WITH LLVM-exception",
    ] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}
