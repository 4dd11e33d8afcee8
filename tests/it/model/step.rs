//! Steps of a random sequence, and how they are drawn.
//!
//! A step says what is done, but not to which lot, hold or spending: it holds a random number, and that is taken as a
//! place among those there are when its turn comes. So every list of steps is a valid sequence, and so is what is left
//! of it when some are taken out, which is what makes a failing one short.
//!
//! Instants are half hours of the clock, and quarters of the day rather than others. Left to chance, two boundaries would
//! never fall on one instant.

use proptest::prelude::*;
use proptest::sample::Index;
use tests::oracle::{MOST, TYPES, Vector};

/// Something done to the organization, or to the clock.
#[derive(Debug, Clone)]
pub enum Step {
    /// Asks for something.
    Ask(Question),
    /// Asks for several things at once, which the ledger's writer finds in one batch; with keys, for the first once more.
    AskTogether(Vec<Question>),
    /// Subscribes to one of the plans.
    Subscribe { plan: Index, anchor: Anchor },
    /// Ends the subscription.
    Unsubscribe,
    /// Changes what the organization may do.
    SetFrozen(bool),
    /// Gives the sequence's own action a new price.
    Price { costs: Vector, unit: i64 },
    /// Moves the clock.
    Clock(Jump),
    /// A process of the background settles what is due.
    Sweep,
    /// History of more than so many half hours ago is dropped.
    DropHistory { half_hours: i64 },
    /// Sends an earlier request again, with its key: as it was, or another one.
    Again { request: Index, other: bool },
    /// Asks for the balance of an instant that has passed.
    LookBack { answer: Index },
}

/// Something that takes an idempotency key.
#[derive(Debug, Clone)]
pub enum Question {
    /// Grants credits.
    Grant { credits: Vector, source: Source, priority: i32, starts: Starts, lasts: Option<i64> },
    /// Takes back what is left of a lot.
    Void { lot: Index },
    /// Corrects the balance.
    Adjust { change: Vector },
    /// Spends.
    Consume { action: Action, quantity: i64 },
    /// Sets credits aside.
    Hold { action: Action, quantity: i64, until: Until },
    /// Captures a hold.
    Capture { hold: Pick, part: Option<i64> },
    /// Gives up a hold.
    Release { hold: Pick },
    /// Gives a hold another end.
    Extend { hold: Pick, until: Until },
    /// Gives a spending back.
    Refund { spending: Index, part: Option<i64>, new_lot_if_over: bool },
}

/// Where a grant comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Purchase,
    Promotion,
}

/// When a grant starts, in half hours from the last one.
#[derive(Debug, Clone, Copy)]
pub enum Starts {
    AtOnce,
    At(i64),
}

/// What is consumed. Each of a different shape.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// One credit of one type.
    Chat,
    /// One credit for a thousand begun.
    Tokens,
    /// One credit of each of two types.
    Reply,
    /// Several credits of two types for seven begun.
    Bundle,
    /// The sequence's own, whose price changes.
    Own,
    /// There is none of that name.
    Unknown,
}

/// A choice among the holds: of those that are open, if there are any, or of all.
#[derive(Debug, Clone, Copy)]
pub enum Pick {
    Open(Index),
    Any(Index),
}

/// When a hold ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So many half hours of the clock from the last one.
    HalfHour(i64),
    /// Together with the lot that ends next.
    NextLotEnds,
}

/// From where a subscription counts its days, in half hours from the last one.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Unsaid,
    At(i64),
    /// That of the subscription there is, or was.
    Same,
}

/// A move of the clock.
#[derive(Debug, Clone, Copy)]
pub enum Jump {
    /// By so many microseconds.
    Micros(i64),
    /// To a half hour of the clock, so many from now.
    HalfHours(i64),
    /// To the next boundary, or so many microseconds beside it.
    ToBoundary(i64),
    /// By so many days, over whatever lies there.
    Days(i64),
    /// Back, as when a clock is corrected.
    Back(i64),
}

/// A step, and whether it is sent with an idempotency key.
pub type Sent = (Step, bool);

/// A random sequence.
pub fn sequence() -> impl Strategy<Value = Vec<Sent>> {
    prop::collection::vec((step(), any::<bool>()), 5..40)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => question().prop_map(Step::Ask),
        3 => prop::collection::vec(question(), 2..6).prop_map(Step::AskTogether),
        6 => time(),
        2 => plans(),
        3 => prop_oneof![
            4 => (any::<Index>(), any::<bool>()).prop_map(|(request, other)| Step::Again { request, other }),
            3 => any::<Index>().prop_map(|answer| Step::LookBack { answer }),
            1 => any::<bool>().prop_map(Step::SetFrozen),
            3 => (vector(4), 1_i64..10).prop_map(|(costs, unit)| Step::Price { costs, unit }),
        ],
    ]
}

fn question() -> impl Strategy<Value = Question> {
    prop_oneof![14 => spending(), 9 => giving()]
}

fn spending() -> impl Strategy<Value = Question> {
    prop_oneof![
        8 => (action(), quantity()).prop_map(|(action, quantity)| Question::Consume { action, quantity }),
        4 => (action(), quantity(), until())
            .prop_map(|(action, quantity, until)| Question::Hold { action, quantity, until }),
        4 => (pick(), part(200)).prop_map(|(hold, part)| Question::Capture { hold, part }),
        2 => pick().prop_map(|hold| Question::Release { hold }),
        2 => (pick(), until()).prop_map(|(hold, until)| Question::Extend { hold, until }),
    ]
}

fn giving() -> impl Strategy<Value = Question> {
    let source = prop_oneof![Just(Source::Purchase), Just(Source::Promotion)];
    let starts = prop_oneof![
        7 => Just(Starts::AtOnce),
        2 => half_hours(60).prop_map(Starts::At),
        1 => (-10_i64..=0).prop_map(Starts::At),
    ];
    let lasts = prop_oneof![3 => Just(None), 4 => half_hours(240).prop_map(Some), 1 => Just(Some(48))];
    prop_oneof![
        5 => (credits(), source, 9_i32..=11, starts, lasts).prop_map(|(credits, source, priority, starts, lasts)| {
            Question::Grant { credits, source, priority, starts, lasts }
        }),
        1 => any::<Index>().prop_map(|lot| Question::Void { lot }),
        1 => prop::array::uniform4(-20_i64..=20).prop_map(|change| Question::Adjust { change }),
        6 => (any::<Index>(), part(110), any::<bool>()).prop_map(|(spending, part, new_lot_if_over)| {
            Question::Refund { spending, part, new_lot_if_over }
        }),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    let beside = prop_oneof![3 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    let jump = prop_oneof![
        1 => (1_i64..3_000_000).prop_map(Jump::Micros),
        4 => half_hours(12).prop_map(Jump::HalfHours),
        4 => beside.prop_map(Jump::ToBoundary),
        1 => (1_i64..6).prop_map(Jump::Days),
        1 => half_hours(4).prop_map(Jump::Back),
    ];
    prop_oneof![6 => jump.prop_map(Step::Clock), 1 => Just(Step::Sweep), 1 => drop_history()]
}

/// Everything before the last half hour, or what is some days old.
fn drop_history() -> impl Strategy<Value = Step> {
    prop_oneof![0..4_i64, 24..400_i64].prop_map(|half_hours| Step::DropHistory { half_hours })
}

fn plans() -> impl Strategy<Value = Step> {
    let anchor = prop_oneof![
        3 => Just(Anchor::Unsaid),
        1 => (-200_i64..=96).prop_map(Anchor::At),
        2 => Just(Anchor::Same),
    ];
    prop_oneof![
        3 => (any::<Index>(), anchor).prop_map(|(plan, anchor)| Step::Subscribe { plan, anchor }),
        1 => Just(Step::Unsubscribe),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        9 => Just(Action::Chat),
        6 => Just(Action::Tokens),
        9 => Just(Action::Reply),
        6 => Just(Action::Bundle),
        6 => Just(Action::Own),
        1 => Just(Action::Unknown),
    ]
}

/// For a hold, of one that is open rather than of one that is not.
fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![5 => any::<Index>().prop_map(Pick::Open), 1 => any::<Index>().prop_map(Pick::Any)]
}

/// Nothing said, or so many hundredths.
fn part(most: i64) -> impl Strategy<Value = Option<i64>> {
    prop_oneof![1 => Just(None), 2 => (1..=most).prop_map(Some)]
}

fn quantity() -> impl Strategy<Value = i64> {
    prop_oneof![60 => 1_i64..12, 30 => 1_i64..40, 10 => 1_i64..200, 1 => Just(MOST)]
}

fn until() -> impl Strategy<Value = Until> {
    prop_oneof![3 => half_hours(48).prop_map(Until::HalfHour), 1 => Just(Until::NextLotEnds)]
}

fn half_hours(most: i64) -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1..=most, 1 => 1..=2_i64.min(most), 3 => (1..=(most / 12).max(1)).prop_map(|quarters| 12 * quarters)]
}

fn vector(most: i64) -> impl Strategy<Value = Vector> {
    let amount = move || prop_oneof![1 => Just(0), 1 => 0..=most];
    (0..=most, 0..=most, amount(), amount()).prop_map(|(a, b, c, d)| [a, b, c, d])
}

/// Mostly little, so that it runs out; of one type or of all; and sometimes nearly all that there can be.
fn credits() -> impl Strategy<Value = Vector> {
    prop_oneof![
        8 => vector(120).prop_filter("nothing is granted", |credits| *credits != [0; TYPES]),
        3 => (1_i64..100).prop_map(|amount| [amount, amount, 0, 0]),
        1 => Just([MOST - 100, 5, 0, 0]),
    ]
}
