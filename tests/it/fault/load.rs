//! Those who ask: open-loop, each under a key, with a journal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::fault::{Asked, Journal, Outcome, Random, exchange};
use tokio::task::JoinSet;

use super::place::ADMIN_KEY;

/// What can be spent on, of every credit type and of two at once.
pub const ACTIONS: [&str; 6] =
    ["ai_chat", "ai_tokens", "whatsapp_message", "whatsapp_ai_reply", "email_ai_draft", "sms"];

/// A thing of an organization: what its path begins with, and its id.
type Thing = (String, String);

/// What all who ask share.
pub struct Load {
    /// The ids of the organizations.
    pub organizations: Vec<String>,
    addresses: Mutex<Vec<SocketAddr>>,
    successes: Vec<AtomicUsize>,
    journal: Mutex<Journal>,
    unclassified: Mutex<Vec<String>>,
    holds: Mutex<Vec<Thing>>,
    spent: Mutex<Vec<Thing>>,
    done: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
    abandons: AtomicBool,
}

impl Load {
    pub fn new(organizations: Vec<String>, addresses: Vec<SocketAddr>, journal: &Path) -> Self {
        Self {
            organizations,
            successes: addresses.iter().map(|_| AtomicUsize::new(0)).collect(),
            addresses: Mutex::new(addresses),
            journal: Mutex::new(Journal::create(journal).unwrap()),
            unclassified: Mutex::default(),
            holds: Mutex::default(),
            spent: Mutex::default(),
            done: Mutex::default(),
            is_over: AtomicBool::new(false),
            abandons: AtomicBool::new(false),
        }
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    /// What was asked so far under each key.
    pub fn journal_by_key(&self) -> BTreeMap<String, Vec<(Asked, Outcome)>> {
        self.journal().by_key()
    }

    pub fn unclassified(&self) -> Vec<String> {
        self.unclassified.lock().unwrap().clone()
    }

    /// Where a server listens now.
    pub fn moved(&self, server: usize, address: SocketAddr) {
        self.addresses.lock().unwrap()[server] = address;
    }

    /// How often a server has said that something is done.
    pub fn successes(&self, server: usize) -> usize {
        self.successes[server].load(Ordering::SeqCst)
    }

    pub fn servers(&self) -> usize {
        self.successes.len()
    }

    /// Whether one in four clients goes away before it is answered.
    pub fn abandon(&self, abandons: bool) {
        self.abandons.store(abandons, Ordering::SeqCst);
    }

    /// Nothing more is to be sent.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Sends at a steady pace, whether or not anything is answered, and waits for the last answer.
    pub async fn send_until_the_end(self: Arc<Self>, seed: u64, pace: Duration) {
        let mut random = Random::new(seed);
        let mut ticks = tokio::time::interval(pace);
        let mut senders = JoinSet::new();
        for number in 0.. {
            ticks.tick().await;
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let server = random.below(self.servers());
            let is_abandoned = self.abandons.load(Ordering::SeqCst) && random.below(4) == 0;
            let asked = self.next(&mut random, number);
            let load = Arc::clone(&self);
            senders.spawn(async move { load.send(server, asked, is_abandoned).await });
            while senders.try_join_next().is_some() {}
        }
        senders.join_all().await;
    }

    /// Asks the first server for one thing more, every other time without a key.
    pub async fn one(&self, random: &mut Random, number: usize) -> Vec<Outcome> {
        let organization = format!("/v1/organizations/{}", self.rich(random.below(self.organizations.len())));
        let asked = spending(organization, random, format!("one-{number}"));
        let asked = if number.is_multiple_of(2) { asked } else { asked.without_key() };
        self.send(0, vec![asked], false).await
    }

    /// Writes down what is asked, asks a server, and writes down what came of it.
    pub async fn send(&self, server: usize, asked: Vec<Asked>, is_abandoned: bool) -> Vec<Outcome> {
        let lines: Vec<usize> = asked.iter().map(|asked| self.journal().asks(asked.clone())).collect();
        let address = self.addresses.lock().unwrap()[server];
        let outcomes = match exchange(address, ADMIN_KEY, &asked, is_abandoned).await {
            Ok(outcomes) => outcomes,
            Err(answer) => {
                self.unclassified.lock().unwrap().push(format!("{asked:?}: {answer}"));
                vec![Outcome::Unknown("not classified".to_owned()); asked.len()]
            }
        };
        for ((line, asked), outcome) in lines.into_iter().zip(asked).zip(&outcomes) {
            self.journal().answered(line, outcome.clone());
            if let Outcome::Done { body, .. } = outcome {
                self.successes[server].fetch_add(1, Ordering::SeqCst);
                self.remember(asked, body);
            }
        }
        outcomes
    }

    /// Keeps what others can ask for later.
    fn remember(&self, asked: Asked, body: &str) {
        let body: Value = serde_json::from_str(body).unwrap();
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        if let Some(organization) = asked.path.as_deref().and_then(|path| path.strip_suffix("/holds")) {
            self.holds.lock().unwrap().push((organization.to_owned(), id));
        } else if let Some(organization) = asked.path.as_deref().and_then(|path| path.strip_suffix("/consume")) {
            self.spent.lock().unwrap().push((organization.to_owned(), id));
        }
        self.done.lock().unwrap().push(asked);
    }

    /// An organization that does not run out of credits, as the first does.
    pub fn rich(&self, number: usize) -> &str {
        &self.organizations[1 + number % (self.organizations.len() - 1)]
    }

    fn path(&self, random: &mut Random) -> String {
        format!("/v1/organizations/{}", self.organizations[random.below(self.organizations.len())])
    }

    /// What is asked next: the mix of a run.
    fn next(&self, random: &mut Random, number: usize) -> Vec<Asked> {
        let key = format!("mix-{number}");
        let organization = self.path(random);
        let asked = match random.below(20) {
            0..=7 => spending(organization, random, key),
            8..=9 => return (0..5).map(|item| self.item(random, format!("{key}-{item}"))).collect(),
            10..=11 => {
                let body = json!({ "action": "ai_chat", "quantity": 1 + random.below(9), "ttl_seconds": 2 + random.below(60) });
                Asked::of(organization + "/holds", key, body)
            }
            12..=13 => match taken(&self.holds, random) {
                Some((organization, id)) if random.below(3) == 0 => {
                    Asked::of(format!("{organization}/holds/{id}/release"), key, json!({}))
                }
                Some((organization, id)) => {
                    Asked::of(format!("{organization}/holds/{id}/capture"), key, json!({ "quantity": 1 }))
                }
                None => spending(organization, random, key),
            },
            14 => match taken(&self.spent, random) {
                Some((organization, id)) => {
                    let path = format!("{organization}/consumptions/{id}/refund");
                    Asked::of(path, key, json!({ "quantity": 1, "reason": "fault run" }))
                }
                None => spending(organization, random, key),
            },
            15 => {
                let expires_at = (multicredit_store::clock::now() + TimeDelta::seconds(2)).to_rfc3339();
                let body =
                    json!({ "credits": { "ai": 20, "sms": 5 }, "source": "promotion", "expires_at": expires_at });
                Asked::of(organization + "/grants", key, body)
            }
            _ => self.again(random).unwrap_or_else(|| spending(organization, random, key)),
        };
        vec![asked]
    }

    fn item(&self, random: &mut Random, key: String) -> Asked {
        let organization = &self.organizations[random.below(self.organizations.len())];
        let action = ACTIONS[random.below(ACTIONS.len())];
        let body = json!({ "organization_id": organization, "action": action, "quantity": 1, "idempotency_key": key });
        Asked::item(key, body)
    }

    /// What was done before once more, one in ten with another body.
    fn again(&self, random: &mut Random) -> Option<Asked> {
        let done = self.done.lock().unwrap();
        let mut asked = done.get(random.below(done.len().max(1)))?.clone();
        if random.below(10) == 0 && asked.body["quantity"].is_number() {
            asked.body["quantity"] = json!(77);
        }
        Some(asked)
    }
}

/// A consumption of an organization, whose path that is.
pub fn spending(organization: String, random: &mut Random, key: String) -> Asked {
    let body = json!({ "action": ACTIONS[random.below(ACTIONS.len())], "quantity": 1 + random.below(3) });
    Asked::of(organization + "/consume", key, body)
}

fn taken(things: &Mutex<Vec<Thing>>, random: &mut Random) -> Option<Thing> {
    let mut things = things.lock().unwrap();
    let count = things.len();
    (count > 0).then(|| things.swap_remove(random.below(count)))
}
