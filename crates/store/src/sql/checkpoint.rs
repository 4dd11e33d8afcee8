//! Moving SQLite's write-ahead log into its file while the ledger goes on writing.
//!
//! By itself SQLite does it in the commit that finds the log long enough: pages are copied and the file is synced while
//! everybody waits, for a tenth of a second under load. Here a thread with a connection of its own does it. It never quite
//! catches up with a writer who does not rest, and only a log of which everything was moved is written over from its
//! beginning. So once the log is long, the writer moves what is left, when that is little.
//!
//! Nothing depends on any of this but how long the log gets: every commit is synced to the log before it is answered.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many pages of the log are worth a pass: 16 MiB. A page that many batches changed is moved once in a pass.
const WORTH_A_PASS: i64 = 4_000;

/// From how many pages on the log is to begin anew: 64 MiB. Commits over other connections move nothing before that: with
/// SQLite's 1,000 each of them would, for beside a writer the log is hardly ever shorter.
pub(super) const LONG: i64 = 16_000;

/// How many pages the writer moves itself so that it can: a few milliseconds of its time.
const LITTLE: i64 = 1_000;

/// From how many pages on SQLite has a commit move whatever there is, if the thread cannot keep up: 256 MiB.
pub(super) const TOO_LONG: i64 = 64_000;

/// Copies what can be copied without waiting for anybody.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Says how long the log is, and how much of it was moved.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

/// The thread.
pub(super) struct Checkpointer {
    /// `None` once it is to end.
    wanted: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread on a connection of its own.
    pub(super) fn start(connection: rusqlite::Connection) -> std::io::Result<Self> {
        let (wanted, asked) = sync_channel(1);
        let run = move || run(&connection, &asked);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(run)?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// Looks at the log after a commit over `writer`.
    pub(super) fn committed(&self, writer: &rusqlite::Connection) {
        if let Err(error) = self.look(writer) {
            tracing::warn!(%error, "the write-ahead log could not be looked after");
        }
    }

    fn look(&self, writer: &rusqlite::Connection) -> rusqlite::Result<()> {
        let (log, moved): (i64, i64) =
            writer.prepare_cached(LOOK)?.query_row((), |row| Ok((row.get(1)?, row.get(2)?)))?;
        let left = log - moved;
        if log >= LONG && left < LITTLE {
            pass(writer)
        } else {
            if left >= WORTH_A_PASS || log >= LONG {
                // It is asked already, if there is no room to ask.
                let _ = self.wanted.as_ref().map(|wanted| wanted.try_send(()));
            }
            Ok(())
        }
    }
}

impl Drop for Checkpointer {
    /// Returns once the thread's connection is closed.
    fn drop(&mut self) {
        drop(self.wanted.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(connection: &rusqlite::Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        if let Err(error) = pass(connection) {
            tracing::warn!(%error, "the write-ahead log could not be moved into the file");
        }
    }
}

/// Moves what is in the log now. Where somebody else is at it, that is as good.
fn pass(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.prepare_cached(MOVE)?.query_row((), |_| Ok(()))
}
