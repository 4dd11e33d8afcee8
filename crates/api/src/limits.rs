//! Every limit of the HTTP side, with its reason. A limit that stands nowhere else cannot be forgotten.
//!
//! Limits of what a value may be (the length of a name, the range of an amount) belong to the value's type.

use std::num::NonZeroU32;
use std::time::Duration;

/// How many connections are served at once when nobody says. One with a request in it takes some 33 KiB, so that this is
/// 66 MiB at most; and it is more than the calls to the ledger that can be waited for (1,280) or decided (256) at a time, so
/// that these are what is refused for, over connections that are kept.
pub const CONNECTIONS_DEFAULT: NonZeroU32 = NonZeroU32::new(2_048).unwrap();

/// How many connections are served beyond that to those who only ask how the process is.
pub const PROBES_MAX: usize = 16;

/// How many connections are told at once that there are too many. Each takes a few kilobytes, for a second at most.
pub const TURNED_AWAY_MAX: usize = 1_024;

/// How long to wait after turning a connection away. One that is opened and closed costs some 0.1 ms of a processor here
/// and as much at the client, which opens the next at once: five times what a refusal over a kept connection costs. Those
/// that are served go first; the others wait to be accepted.
pub const TURN_AWAY_PAUSE: Duration = Duration::from_millis(1);

/// The most bytes of a body that are looked at. A full batch of 1,000 items with metadata stays well below.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Up to how many bytes of a body that is too large are still read and thrown away. A client that is still writing when
/// the answer comes sees a reset connection instead of the answer; beyond this we accept that.
pub const DRAIN_MAX_BYTES: usize = 8 * 1024 * 1024;

/// How long a body may take to arrive. A mebibyte over a slow mobile line takes a few seconds; a client that sends a
/// byte a minute keeps a connection and a buffer for nothing.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The most streams of live balances that a process has open: each asks the database at most four times a second.
pub const STREAMS_MAX: usize = 256;

/// The most of them that are of one organization.
pub const STREAMS_OF_ORGANIZATION_MAX: usize = 32;

/// How many movements a stream reads at once: what it holds of them for a reader that is slow.
pub const STREAM_PAGE: u64 = 100;

/// How long it is at least from one look of a stream to the next, so that a busy ledger is read in pages.
pub const STREAM_PAUSE_MIN: Duration = Duration::from_millis(250);

/// How long it is at most, for what other processes move.
pub const STREAM_PAUSE_MAX: Duration = Duration::from_secs(1);

/// After how long without an event a stream says that it is alive: below the minute after which proxies close.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream lasts: a key that was revoked sees no more than that.
pub const STREAM_LIFETIME: Duration = Duration::from_mins(5);

/// The most items of a batch of consumptions or events. The ledger commits a batch at once; more would only wait.
pub const BATCH_ITEMS_MAX: usize = 1000;

/// How many items a page has where the caller does not say.
pub const PAGE_LIMIT_DEFAULT: u32 = 20;

/// The most items of a page.
pub const PAGE_LIMIT_MAX: u32 = 100;

/// The longest cursor that is looked at: the longest position (a user's id, 200 characters of up to 4 bytes) in base64,
/// with room.
pub const CURSOR_MAX_BYTES: usize = 1100;

/// The longest `X-Request-Id` that is taken over from a caller.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// The longest API key that is looked at; the longest admin key that can be registered.
pub const API_KEY_MAX_BYTES: usize = 255;

/// The longest signed token that is looked at: those of identity providers with many claims have some 2 KiB.
pub const TOKEN_MAX_BYTES: usize = 4096;

/// By how much the clock of whoever signs tokens may differ from ours.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);

/// How long the keys of signed tokens are believed before the file is looked at again.
pub const TOKEN_KEYS_AGE: Duration = Duration::from_secs(5);

/// How long a key that was found valid is believed without asking the database: how long a key that another process
/// revoked may still work.
pub const KEY_TTL: Duration = Duration::from_secs(5);

/// From which age on one request, and only one, asks anew while the others go on with what is known, so that a hot key
/// never makes all of its callers wait for the database at once.
pub const KEY_REFRESH_AGE: Duration = Duration::from_secs(4);

/// How long a key that was found invalid is believed to be: long enough to spare the database a client that does not
/// give up, short enough that a key registered by another process works at once for people.
pub const UNKNOWN_KEY_TTL: Duration = Duration::from_secs(1);

/// The most valid keys that are remembered, some 100 bytes each.
pub const KNOWN_KEYS_MAX: usize = 10_000;

/// The most invalid keys that are remembered, apart from the valid ones: guessing must not push those out.
pub const UNKNOWN_KEYS_MAX: usize = 10_000;

/// The most organizations whose `external_id` is remembered, some 300 bytes each.
pub const DIRECTORY_MAX: usize = 50_000;

/// How many unknown subjects of one batch of events are looked up at the same time: half of the readers' connections.
pub const DIRECTORY_LOOKUPS_MAX: usize = 5;

/// After how many seconds a refused caller may come back (`Retry-After` of 429 and 503). Queues drain in well under a
/// second, and a database that comes back does so in seconds.
pub const RETRY_AFTER_SECONDS: u16 = 1;

/// How long a session of the dashboard lasts at most: a working day. Whoever needs it longer logs in again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(12);

/// How many rows a list of the dashboard has: what a person looks through before they search.
pub const DASHBOARD_ROWS: u32 = 25;

/// How long the page of all organizations is shown again: its figures are sums over all of history.
pub const FLEET_SHOWN_FOR: Duration = Duration::from_secs(10);

/// The longest URL of a webhook endpoint. Servers and proxies that take longer ones are few.
pub const WEBHOOK_URL_MAX_BYTES: usize = 2048;

/// How long finding a webhook's host and connecting to it may take, over all of its addresses. Who is slower than two
/// lost packets is down, and is tried again.
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long delivering a webhook may take, from the name of its host to the end of the answer: what the specification
/// asks of senders. A receiver that needs longer for its work should answer first.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// The most of an answer's head that is read. It is part of no protocol of ours.
pub const WEBHOOK_ANSWER_HEAD_MAX_BYTES: usize = 16 * 1024;

/// The most of an answer's body that is read, and thrown away, so that the receiver sees an orderly end.
pub const WEBHOOK_ANSWER_BODY_MAX_BYTES: usize = 16 * 1024;

/// How long a connection to a receiver is kept that nobody uses: less than what servers usually allow, so that it is
/// seldom closed at the moment when it is used again.
pub const WEBHOOK_CONNECTION_IDLE_MAX: Duration = Duration::from_secs(4);

/// How long a connection to a receiver is used at all: what its host's name leads to is asked anew at least that often.
pub const WEBHOOK_CONNECTION_LIFETIME: Duration = Duration::from_secs(30);

/// How many webhooks one process sends at once.
pub const WEBHOOK_CONCURRENCY_MAX: usize = 64;

/// How many of them to one endpoint, so that one that hangs holds up nobody else.
pub const WEBHOOK_ENDPOINT_CONCURRENCY_MAX: usize = 8;

/// How many pairs of an endpoint and an organization one process has in hand, with those that wait for their turn to be
/// sent.
pub const WEBHOOK_PAIRS_MAX: usize = 256;

/// How many of them of one endpoint.
pub const WEBHOOK_ENDPOINT_PAIRS_MAX: usize = 32;

/// How many webhooks one process sends a second, where nothing is said: what a machine of two cores does beside a ledger at
/// its limit that gets no more than a tenth slower by it.
pub const WEBHOOK_RATE_DEFAULT: NonZeroU32 = NonZeroU32::new(500).unwrap();

/// The least that it may be: with less, pairs would wait for their turn longer than they may be had in hand.
pub const WEBHOOK_RATE_MIN: u32 = 10;

/// How often a deliverer looks at everybody, beside those whom its own process has moved.
pub const WEBHOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long it waits at least between two looks.
pub const WEBHOOK_PAUSE_MIN: Duration = Duration::from_millis(25);

/// How long a secret that was replaced still signs as well, in seconds, where nothing is said: long enough to bring the
/// other one to every receiver.
pub const WEBHOOK_ROTATION_SECONDS_DEFAULT: i64 = 24 * 3600;

/// The longest that it may: a secret that must not be used any more should not be.
pub const WEBHOOK_ROTATION_SECONDS_MAX: i64 = 7 * 24 * 3600;
