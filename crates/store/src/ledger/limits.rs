//! Every limit of the ledger, with its reason. A limit that stands nowhere else cannot be forgotten.

use std::time::Duration;

/// From how many requests on a batch takes no further jobs. Larger batches gain little (the commit is shared already) and
/// make the first request of the next one wait longer.
pub(crate) const BATCH_MAX: usize = 256;

/// From how many movements on a transaction decides no further requests, and leaves them to the next one. A batch makes a few
/// hundred at most as a rule. After a long absence each organization may have hundreds of boundaries due, and all those of a
/// batch together would take longer than [`LEDGER_STATEMENT_TIMEOUT`].
pub(crate) const BOOKED_MAX: usize = 4_096;

/// The most requests of one job: those of the largest batch call, which are decided together.
pub(crate) const JOB_MAX: usize = 1_000;

/// From how many requests on a batch call is shared between a writer and its helper, which the database works on with one
/// processor each. A smaller one is done before two commits would be.
pub(crate) const SHARED_BATCH_MIN: usize = 128;

/// The most requests that wait for the writer, over all organizations. At a thousand commits of full batches a second
/// this is far under a second of waiting; beyond it, a refusal now is worth more than an answer later.
pub(crate) const QUEUE_MAX: usize = 16_384;

/// The most calls that wait, each with one request or a batch of them. Each keeps a connection and its buffers, some 50 KiB
/// of memory, so this bounds what an overload takes; and at ten thousand calls a second they wait for an eighth of one.
pub(crate) const CALLS_MAX: usize = 1_280;

/// The most calls with one request of one organization that wait: what the contract promises, and few enough that there is
/// room for others.
pub(crate) const ORGANIZATION_CALLS_MAX: usize = 1_024;

/// The most requests of one organization that wait, so that a loud one cannot fill the queue. The contract promises at
/// least 1,024; a full batch call (1,000 items) fits four times.
pub(crate) const ORGANIZATION_QUEUE_MAX: usize = 4_096;

/// How long the server waits for a lock before it gives a statement up. Locks are held for one batch, milliseconds.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the server keeps a transaction whose client says nothing: a client that died must not hold locks.
pub(crate) const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long SQLite waits for another process that writes (`import` beside `serve`).
pub(crate) const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the express path waits for that: less, since the portable path waits after it, and both together must end within
/// [`ATTEMPT_DEADLINE_SQLITE`].
pub(crate) const SQLITE_BUSY_TIMEOUT_EXPRESS: Duration = Duration::from_secs(2);

/// How long the server works on one statement of the ledger. A batch takes milliseconds; callers are told after
/// [`RETRY_DEADLINE`] at the latest, and no statement should outlive them.
pub(crate) const LEDGER_STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one attempt at a batch may take on our side, on PostgreSQL. A black-holed connection never answers, and no
/// timeout of the server reaches us then. Above the timeouts of the server, which explain themselves better.
pub(crate) const ATTEMPT_DEADLINE: Duration = Duration::from_secs(4);

/// The same on SQLite, where nothing can be black-holed, but another process may write for a while.
pub(crate) const ATTEMPT_DEADLINE_SQLITE: Duration = Duration::from_secs(20);

/// How long to wait for the server to end the process behind a lost connection.
pub(crate) const END_BACKEND_WAIT: Duration = Duration::from_secs(1);

/// How long a batch is tried again after failures that may pass, before its callers are told to come back.
pub(crate) const RETRY_DEADLINE: Duration = Duration::from_secs(3);

/// The first pause between two tries; each further one doubles, with jitter.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two tries.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long the server works on one statement of a job of the background: a slice of a rollup takes a second or two, and
/// making a view anew over very many organizations takes minutes.
pub(crate) const JOB_STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);

/// How many keys a writer remembers, to expect them when they come again: those of the last seconds under load, in a
/// megabyte or two.
pub(crate) const RECENT_KEYS_MAX: usize = 16_384;

/// For how many calls of the express path keys are looked for after one was known that was not expected to be.
pub(crate) const SCREENED_CALLS: u32 = 64;
