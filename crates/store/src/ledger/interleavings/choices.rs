//! Where a schedule comes from: from a seed, or from all there are, one after the other.

/// The choices of one schedule, made as they are asked for.
pub(super) struct Choices {
    /// What is chosen first, each with the number that there was to choose from.
    prefix: Vec<(usize, usize)>,
    /// What was chosen.
    made: Vec<(usize, usize)>,
    /// Decides what comes behind the prefix; without it, that is the first of everything.
    random: Option<Random>,
}

impl Choices {
    /// Those that a seed makes.
    pub(super) fn of_seed(seed: u64) -> Self {
        Self { prefix: Vec::new(), made: Vec::new(), random: Some(Random(seed)) }
    }

    /// The first of everything.
    pub(super) fn first() -> Self {
        Self { prefix: Vec::new(), made: Vec::new(), random: None }
    }

    /// One of so many, counted from 0.
    pub(super) fn choose(&mut self, of: usize) -> usize {
        assert!(of > 0, "there is nothing to choose from");
        if of == 1 {
            return 0;
        }
        let chosen = match (self.prefix.get(self.made.len()), &mut self.random) {
            (Some((chosen, expected)), _) => {
                assert_eq!(*expected, of, "the same schedule came to another choice");
                *chosen
            }
            (None, Some(random)) => random.below(of),
            (None, None) => 0,
        };
        self.made.push((chosen, of));
        chosen
    }

    /// The schedule after this one, in the order of all; `None` after the last.
    pub(super) fn next(mut self) -> Option<Self> {
        while let Some((chosen, of)) = self.made.pop() {
            if chosen + 1 < of {
                self.made.push((chosen + 1, of));
                return Some(Self { prefix: self.made, made: Vec::new(), random: None });
            }
        }
        None
    }
}

/// Numbers that a seed decides (`SplitMix64`).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let below = (mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap();
        usize::try_from(below).unwrap()
    }
}

#[test]
fn all_schedules_are_come_by_and_each_once() {
    let mut seen = std::collections::BTreeSet::new();
    let mut choices = Some(Choices::first());
    while let Some(mut now) = choices.take() {
        let first = now.choose(3);
        let second = now.choose(first + 1);
        assert!(seen.insert((first, second)));
        choices = now.next();
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]);
}
