//! Reading the text format of Prometheus, strictly: what a scraper would refuse, a test does too.

use std::collections::{BTreeMap, BTreeSet};

/// A line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name, with the suffix of a histogram's or summary's parts.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// Every sample, as they stand.
    pub samples: Vec<Sample>,
    /// The kind of every family, by name.
    pub kinds: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Panics
    ///
    /// If it is none: a line that cannot be read, a family without a word of help, twice or in pieces, a sample twice,
    /// buckets that do not add up.
    pub fn read(text: &str) -> Self {
        let mut page = Self { samples: Vec::new(), kinds: BTreeMap::new() };
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(words.ends_with('.') && helped.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no kind: {line}"));
                assert!(helped.contains(name), "{name} has no help");
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
                name.clone_into(&mut family);
            } else {
                let sample = read_sample(line);
                assert_eq!(page.family_of(&sample.name), Some(family.as_str()), "{line} stands under {family}");
                let twice = page.samples.iter().any(|it| it.name == sample.name && it.labels == sample.labels);
                assert!(!twice, "{line} is there twice");
                page.samples.push(sample);
            }
        }
        page.assert_histograms_add_up();
        page
    }

    /// The family that a sample's name belongs to.
    pub fn family_of(&self, name: &str) -> Option<&str> {
        let of = |name: &str| self.kinds.get_key_value(name).map(|(name, kind)| (name.as_str(), kind.as_str()));
        if let Some((family, kind)) = of(name) {
            return (!matches!(kind, "histogram" | "summary")).then_some(family);
        }
        let (family, kind) = ["_bucket", "_sum", "_count"].iter().find_map(|part| of(name.strip_suffix(part)?))?;
        matches!(kind, "histogram" | "summary").then_some(family)
    }

    /// The sum of all samples of that name with these labels among theirs; `None` where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        self.samples.iter().filter(matching).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    fn assert_histograms_add_up(&self) {
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut series: BTreeMap<_, Vec<f64>> = BTreeMap::new();
            for sample in self.samples.iter().filter(|sample| sample.name == format!("{family}_bucket")) {
                let mut labels = sample.labels.clone();
                labels.remove("le").unwrap_or_else(|| panic!("{family}: a bucket without a bound"));
                series.entry(labels).or_default().push(sample.value);
            }
            for (labels, buckets) in series {
                assert!(buckets.is_sorted(), "{family} {labels:?}: {buckets:?}");
                let of = |part: &str| {
                    self.samples.iter().find(|it| it.name == format!("{family}{part}") && it.labels == labels)
                };
                assert_eq!(of("_count").map(|count| count.value), buckets.last().copied(), "{family} {labels:?}");
                assert!(of("_sum").is_some(), "{family} {labels:?} has no sum");
            }
        }
    }
}

fn read_sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, mut rest) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"))),
        None => (head, ""),
    };
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    assert!(is_name, "no name: {line}");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        // No value of ours has a quote in it.
        let (value, after) = quoted.split_once('"').unwrap_or_else(|| panic!("no end of a value: {line}"));
        assert!(labels.insert(label.to_owned(), value.to_owned()).is_none(), "{label} is there twice: {line}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Sample { name: name.to_owned(), labels, value }
}
