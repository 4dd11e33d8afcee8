//! The corpora of the fuzz targets, and what a generator makes of them: the short version of `make fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use super::*;

/// How many inputs are made of each corpus.
const MADE: usize = 3_000;

/// Pieces that matter to some reader.
const PIECES: [&[u8]; 30] = [
    b"0",
    b"-0",
    b"1e3",
    b"-1",
    b"9007199254740991",
    b"9007199254740992",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"1e400",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b" ",
    b"\xef\xbb\xbf",
    b"\xff",
    b"evt_",
    b"9999-12-31T23:59:60Z",
    b"Bearer ",
    b"=",
];

/// Random numbers, the same each time (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((value ^ (value >> 31)) % (end.max(1) as u64)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// A part of something that is that long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(24) + 1)
    }

    /// One small change.
    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = self.below(input.len() + 1);
        let range = self.range(input.len());
        match self.below(6) {
            0 if place < input.len() => input[place] = self.byte(),
            0 | 1 => drop(input.splice(range, PIECES[self.below(PIECES.len())].iter().copied())),
            2 => drop(input.splice(range, [])),
            3 => {
                let copy = input[range].to_vec();
                input.splice(place..place, copy);
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let part = self.range(other.len());
                input.splice(range, other[part].iter().copied());
            }
            _ => input.insert(place, self.byte()),
        }
    }
}

/// Says on the way out of a panic what it was about.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(target: &str, check: fn(&[u8]) -> bool) {
    let check = |input: &[u8]| {
        let _shown = Shown(input);
        check(input)
    };
    let corpus = corpus(target);
    let taken = corpus.iter().filter(|input| check(input)).count();
    assert!(taken * 2 >= corpus.len() && taken < corpus.len(), "{taken} of {} inputs are taken", corpus.len());
    let mut random = Random(1);
    let mut taken = 0;
    for number in 0..MADE {
        let mut input = corpus[number % corpus.len()].clone();
        for _ in 0..=random.below(4) {
            random.change(&mut input, &corpus);
        }
        taken += usize::from(check(&input));
    }
    assert!(taken > 0 && taken < MADE, "{taken} of {MADE} are taken");
}

macro_rules! targets {
    ($($target:ident)+) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target), super::$target);
            }
        )+

        #[test]
        fn every_target_is_fuzzed() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/targets");
            let files: BTreeSet<_> =
                fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(files, [$(concat!(stringify!($target), ".rs").to_owned()),+].into());
        }
    };
}

targets! { amounts bodies cloud_events csv cursors keys }

#[test]
fn the_corpus_has_every_body() {
    let corpus = corpus("bodies");
    let texts: Vec<_> = corpus.iter().filter_map(|input| std::str::from_utf8(input).ok()).collect();
    let missing: Vec<_> = bodies::names().filter(|name| !texts.iter().any(|text| bodies::is_one(name, text))).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}
