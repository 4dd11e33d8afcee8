//! One schedule: callers, writers and the database, of whom one goes on at a time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use multicredit_domain::{
    Account, ActionType, Actor, Amount, Consume, CreditType, Credits, GrantSource, IdempotencyKey, NewGrant,
    OrganizationId, Price, Quantity, Timestamp,
};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};
use uuid::Uuid;

use super::choices::Choices;
use super::database::{Database, FakeSession, Fate, Kept, Point};
use super::verdict::{Sum, Told, check};
use crate::cache::Caches;
use crate::clock::Clock;
use crate::config::{Engine, StoreConfig};
use crate::ledger::queue::{Crew, Ledger};
use crate::ledger::writer::{Habits, Writer};
use crate::ledger::{ConsumeItem, Reply, Request, limits};
use crate::stats::{DecidedBy, Stats};
use crate::webhook::Wake;

const CREDITS: i64 = 100;
/// Longer than the longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(600);
/// Longer than an attempt may take.
const SILENCE: Duration = Duration::from_secs(5);
/// More than any schedule takes.
const STEPS_MAX: usize = 2_000;

thread_local! {
    /// What no schedule depends on, and takes longer to make than one takes to run.
    static SHARED: (Arc<Caches>, Arc<Stats>) = {
        let stats = Arc::new(Stats::default());
        let config = StoreConfig::new("sqlite::memory:");
        let pool = sea_orm::DatabaseConnection::default();
        let (caches, _) = Caches::start(Engine::Sqlite, &config, &pool, &stats).unwrap();
        (caches, stats)
    };
}

/// How many requests the express path has decided in all schedules of this thread.
pub(super) fn decided_by_express() -> u64 {
    SHARED.with(|(_, stats)| stats.ledger.path(DecidedBy::Express).decided.get())
}

/// One thing that is asked for.
#[derive(Debug, Clone)]
pub(super) struct What {
    /// By which it is known in the database.
    pub(super) name: String,
    /// Whose credits, by number.
    pub(super) organization: usize,
    pub(super) quantity: i64,
    pub(super) key: Option<&'static str>,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Spend(What),
    Batch(Vec<What>),
    Grant(What),
    /// So many callers at once.
    Burst(What, usize),
}

/// What there is to schedule.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) asks: Vec<Ask>,
    pub(super) writers: usize,
    /// How many calls the queue takes.
    pub(super) calls_max: usize,
    /// From how many requests on a batch is full.
    pub(super) batch_max: usize,
    /// How many callers may be cancelled.
    pub(super) cancels: usize,
    /// How often something may go wrong.
    pub(super) faults: usize,
    /// Whether the ledger may be closed before everything was asked.
    pub(super) closes: bool,
    pub(super) is_express: bool,
    pub(super) is_pooled: bool,
}

impl Plan {
    pub(super) const fn of(asks: Vec<Ask>) -> Self {
        Self {
            asks,
            writers: 1,
            calls_max: 100,
            batch_max: limits::BATCH_MAX,
            cancels: 0,
            faults: 0,
            closes: false,
            is_express: false,
            is_pooled: false,
        }
    }
}

/// Something that can happen next.
#[derive(Debug, Clone, Copy)]
enum Action {
    Decide(usize, Fate),
    Settle(u32),
    Ask,
    Cancel(usize),
    Close,
    /// Nothing is answered for longer than anybody waits; whether what was said has reached the server.
    Silence {
        is_reached: bool,
    },
    Pause,
}

/// Somebody who has asked.
struct Caller {
    names: Vec<String>,
    task: JoinHandle<()>,
    told: Rc<RefCell<Option<Vec<Told>>>>,
}

/// Prints what has happened where a schedule fails.
struct Trace<'a>(&'a str, &'a Plan, Vec<Action>);

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed:\n{:#?}\n{:#?}", self.0, self.1, self.2);
        }
    }
}

fn organization(number: usize) -> OrganizationId {
    OrganizationId::new(Uuid::from_u128(1 + number as u128))
}

fn at() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
}

fn ai(value: i64) -> Credits {
    let mut credits = Credits::ZERO;
    credits[CreditType::Ai] = Amount::new(value).unwrap();
    credits
}

fn action() -> ActionType {
    ActionType::new("ai_chat").unwrap()
}

fn consume(what: &What) -> Consume {
    Consume {
        action: action(),
        quantity: Quantity::new(what.quantity).unwrap(),
        occurred_at: None,
        metadata: None,
        actor: Some(Actor::new(&*what.name).unwrap()),
    }
}

fn grant(what: &What) -> NewGrant {
    NewGrant {
        credits: ai(what.quantity),
        source: GrantSource::Purchase,
        priority: 10,
        effective_at: None,
        expires_at: None,
        reference: Some(what.name.clone()),
        top_up_id: None,
    }
}

fn key(what: &What) -> Option<IdempotencyKey> {
    what.key.map(|key| IdempotencyKey::of_request(key).unwrap())
}

/// Two organizations without credits, and a price.
fn kept() -> Kept {
    let price = Price {
        version: 1,
        costs: ai(1),
        unit_size: Quantity::new(1).unwrap(),
        active: true,
        effective_at: at() - chrono::TimeDelta::days(1),
        description: None,
    };
    Kept {
        accounts: (0..2).map(|number| (organization(number), Account::open(organization(number), at()))).collect(),
        prices: HashMap::from([(action(), vec![price])]),
        ..Kept::default()
    }
}

/// Runs a schedule to its end, and asserts what must hold.
pub(super) fn run(plan: &Plan, choices: &mut Choices, name: &str) -> Sum {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut trace = Trace(name, plan, Vec::new());
    LocalSet::new().block_on(&runtime, async {
        let mut stage = Stage::set(plan);
        stage.prepare().await;
        stage.play(choices, &mut trace.2).await;
        stage.judge()
    })
}

struct Stage<'a> {
    plan: &'a Plan,
    database: Rc<Database>,
    ledger: Arc<Ledger>,
    callers: Vec<Caller>,
    asked: usize,
    cancels: usize,
    faults: usize,
    doubts: usize,
    /// Whether something has gone wrong that may leave doubt for good.
    may_stay_in_doubt: bool,
    closing: Option<JoinHandle<()>>,
}

impl<'a> Stage<'a> {
    fn set(plan: &'a Plan) -> Self {
        let database = Database::new(plan.is_pooled, kept(), at());
        let (caches, stats) = SHARED.with(Clone::clone);
        let crew = Crew { writers: plan.writers, has_helper: false, calls_max: plan.calls_max };
        let ledger = Ledger::with_crew(&crew, &stats, |waiting, queue| {
            // Two that rest wake in the same order in every run.
            let habits = Habits {
                jitter: |pause| pause,
                batch_max: plan.batch_max,
                ..Habits::of(Engine::Postgres, plan.is_express, Clock::default())
            };
            let (caches, stats) = (Arc::clone(&caches), Arc::clone(&stats));
            let place = Rc::clone(&database);
            let writer = Writer::<FakeSession>::new(place, habits, waiting, caches, stats, Arc::new(Wake::default()));
            let (ended, end) = oneshot::channel();
            spawn_local(async move {
                writer.run(queue).await;
                let _ = ended.send(());
            });
            end
        });
        Self {
            plan,
            database,
            ledger: Arc::new(ledger),
            callers: Vec::new(),
            asked: 0,
            cancels: 0,
            faults: 0,
            doubts: 0,
            may_stay_in_doubt: false,
            closing: None,
        }
    }

    /// Waits until nobody can go on without the schedule.
    async fn settle(&self) {
        let unanswered = self.callers.iter().filter(|caller| !caller.task.is_finished()).count();
        for _ in 0..8 + unanswered / 8 {
            yield_now().await;
        }
    }

    /// Gives everybody credits, and shows the express path the price. Nothing goes wrong here.
    async fn prepare(&mut self) {
        for number in 0..2 {
            let what = |name: &str, quantity| What {
                name: format!("{name}-{number}"),
                organization: number,
                quantity,
                key: None,
            };
            self.start(&Ask::Grant(what("first", CREDITS)));
            self.start(&Ask::Spend(what("first-spent", 1)));
        }
        while !self.are_answered() {
            self.settle().await;
            if !self.database.waiting().is_empty() {
                self.database.decide(0, Fate::Passes);
            }
        }
    }

    fn are_answered(&self) -> bool {
        self.callers.iter().all(|caller| caller.task.is_finished())
    }

    async fn play(&mut self, choices: &mut Choices, trace: &mut Vec<Action>) {
        loop {
            self.settle().await;
            self.check_counts();
            let actions = self.actions();
            if actions.is_empty() {
                assert!(self.are_answered(), "somebody is never answered");
                let closing = self.closing.as_ref().expect("the end is always possible");
                assert!(closing.is_finished(), "the writers do not end");
                return;
            }
            let action = actions[choices.choose(actions.len())];
            trace.push(action);
            assert!(trace.len() < STEPS_MAX, "it does not end");
            self.act(action).await;
        }
    }

    /// Everything that can happen now. What brings the end closer stands first.
    fn actions(&self) -> Vec<Action> {
        let waiting = self.database.waiting();
        let runnable = || waiting.iter().enumerate().filter(|(_, (_, _, is_free))| *is_free);
        let mut actions: Vec<Action> = runnable().map(|(number, _)| Action::Decide(number, Fate::Passes)).collect();
        let may_fail = self.faults < self.plan.faults;
        let is_all_asked = self.asked == self.plan.asks.len();
        actions.extend(self.database.adrift().into_iter().map(Action::Settle));
        if !is_all_asked {
            actions.push(Action::Ask);
        }
        let can_close = self.plan.closes || (is_all_asked && self.are_answered());
        if self.closing.is_none() && can_close {
            actions.push(Action::Close);
        }
        let is_idle = self.are_answered() && self.closing.as_ref().is_none_or(JoinHandle::is_finished);
        if runnable().next().is_none() && !is_idle {
            actions.push(Action::Pause);
        }
        if may_fail {
            let faults = |(number, (_, point, _)): (usize, &(u32, Point, bool))| {
                point.faults().iter().map(move |fate| Action::Decide(number, *fate))
            };
            actions.extend(runnable().flat_map(faults));
            if waiting.iter().any(|(_, point, _)| *point != Point::Close) {
                actions.extend([true, false].map(|is_reached| Action::Silence { is_reached }));
            }
        }
        if self.cancels < self.plan.cancels {
            // Of very many, the first ones stand for all.
            let is_there = |(_, caller): &(usize, &Caller)| !caller.task.is_finished();
            let there = self.callers.iter().enumerate().filter(is_there).take(8);
            actions.extend(there.map(|(number, _)| Action::Cancel(number)));
        }
        actions
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Decide(number, fate) => {
                self.faults += usize::from(fate != Fate::Passes);
                self.doubts += usize::from(fate == Fate::Lost { is_reached: true });
                self.may_stay_in_doubt |= fate == Fate::Panics || self.faults > 1;
                self.database.decide(number, fate);
            }
            Action::Settle(number) => self.database.settle(number),
            Action::Ask => {
                let ask = &self.plan.asks[self.asked];
                self.asked += 1;
                self.start(ask);
            }
            Action::Cancel(number) => {
                self.cancels += 1;
                self.callers[number].task.abort();
            }
            Action::Close => {
                let ledger = Arc::clone(&self.ledger);
                self.closing = Some(spawn_local(async move { ledger.close().await }));
            }
            Action::Silence { is_reached } => {
                self.faults += 1;
                self.may_stay_in_doubt = true;
                if is_reached {
                    self.doubts += 1;
                } else {
                    self.database.swallow();
                }
                tokio::time::advance(SILENCE).await;
            }
            Action::Pause => {
                // Whoever waits for a lock that a lost session holds may wait for too long.
                self.may_stay_in_doubt |= !self.database.waiting().is_empty();
                tokio::time::advance(PAUSE).await;
            }
        }
    }

    fn start(&mut self, ask: &Ask) {
        match ask {
            Ask::Spend(what) => {
                let (ledger, item) = (Arc::clone(&self.ledger), item(what));
                self.call(vec![what.name.clone()], async move {
                    vec![ledger.consume(item).await.map_or_else(Told::Error, spent)]
                });
            }
            Ask::Batch(all) => {
                let (ledger, items) = (Arc::clone(&self.ledger), all.iter().map(item).collect());
                self.call(all.iter().map(|what| what.name.clone()).collect(), async move {
                    let answers = ledger.consume_many(items).await;
                    answers.into_iter().map(|answer| answer.map_or_else(Told::Error, spent)).collect()
                });
            }
            Ask::Grant(what) => {
                let (ledger, organization, request) =
                    (Arc::clone(&self.ledger), organization(what.organization), Request::Grant(grant(what)));
                self.call(vec![what.name.clone()], async move {
                    let answer = ledger.request(organization, request, None, None).await;
                    vec![answer.map_or_else(Told::Error, |answer| match answer.value {
                        Reply::Grant(grant) => Told::Granted(grant, answer.replayed),
                        other => panic!("a grant was answered with {other:?}"),
                    })]
                });
            }
            Ask::Burst(what, count) => {
                for number in 0..*count {
                    self.start(&Ask::Spend(What { name: format!("{}-{number}", what.name), ..what.clone() }));
                }
            }
        }
    }

    fn call(&mut self, names: Vec<String>, answer: impl Future<Output = Vec<Told>> + 'static) {
        let told = Rc::new(RefCell::new(None));
        let place = Rc::clone(&told);
        let task = spawn_local(async move {
            let before = place.replace(Some(answer.await));
            assert!(before.is_none(), "somebody was answered twice");
        });
        self.callers.push(Caller { names, task, told });
    }

    /// What waits is what was asked and not answered, at most, and adds up.
    fn check_counts(&self) {
        let unanswered = |caller: &&Caller| caller.told.borrow().is_none();
        let asked: usize = self.callers.iter().filter(unanswered).map(|caller| caller.names.len()).sum();
        assert!(self.ledger.queued() <= asked, "{} wait of {asked}", self.ledger.queued());
        assert!(self.ledger.waiting.adds_up());
        if self.closing.as_ref().is_some_and(JoinHandle::is_finished) {
            let waiting = self.database.waiting();
            assert!(self.are_answered() && self.database.is_quiet(), "closed, and something is not done: {waiting:?}");
        }
    }

    fn judge(self) -> Sum {
        assert_eq!(self.ledger.queued(), 0, "nothing waits any more");
        assert!(self.ledger.waiting.adds_up());
        assert!(self.database.is_quiet(), "no transaction is left behind");
        let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for caller in self.callers {
            let answers = caller.told.take();
            let answers = answers.unwrap_or_else(|| vec![Told::Gone; caller.names.len()]);
            assert_eq!(answers.len(), caller.names.len(), "each has its answer");
            for (name, answer) in caller.names.into_iter().zip(answers) {
                told.entry(name).or_default().push(answer);
            }
        }
        let mut sum = self.database.look(|kept| check(kept, &told));
        sum.doubts = self.doubts;
        assert!(sum.cancelled == 0 || self.cancels > 0, "somebody was never answered: {told:?}");
        assert!(sum.unknown == 0 || self.may_stay_in_doubt, "one fault must not leave doubt for good: {told:?}");
        assert!(sum.unavailable == 0 || self.faults > 0 || self.plan.closes, "nothing went wrong: {told:?}");
        sum
    }
}

fn item(what: &What) -> ConsumeItem {
    ConsumeItem { organization_id: organization(what.organization), request: consume(what), key: key(what) }
}

fn spent(answer: crate::ledger::Answer<multicredit_domain::Consumption>) -> Told {
    Told::Spent(Box::new(answer.value), answer.replayed)
}
