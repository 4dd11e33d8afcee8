//! What a writer asks of its database.
//!
//! The writer decides what is done again, what is in doubt and who is answered when; a session is what it talks to
//! meanwhile. There are two: a connection to either engine, and the one of `interleavings`, whose every step a test
//! decides. The line between them is drawn where nothing but rows is beyond it.

use std::collections::BTreeSet;

use multicredit_domain::{Consumption, OrganizationId, Timestamp};

use super::decide::{Effects, Facts};
use super::express::{self, Demand};
use super::writer::{self, Marker};
use super::{Task, read, write};
use crate::clock::Clock;
use crate::config::{Engine, StoreConfig};
use crate::error::AttemptError;
use crate::sql::{Backend, Connection};

/// A session of a writer with its database. After an error of the connection it is of no more use.
pub(super) trait Session: Sized {
    /// What it takes to open one.
    type Place;
    /// The server's side of a session, by which it can be ended.
    type Backend: Copy;

    /// Connects.
    async fn open(place: &Self::Place) -> Result<Self, sqlx::Error>;

    /// The server's side of this one, if it is ours to end.
    fn backend(&self) -> Option<Self::Backend>;

    /// Ends what is left of a lost session, and waits until it is gone.
    async fn end(&mut self, lost: Self::Backend) -> Result<(), sqlx::Error>;

    /// Closes it, telling the server.
    async fn close(self) -> Result<(), sqlx::Error>;

    /// Begins a transaction that will write.
    async fn begin(&mut self) -> Result<(), sqlx::Error>;

    /// Commits.
    async fn commit(&mut self) -> Result<(), sqlx::Error>;

    /// Rolls back.
    async fn rollback(&mut self) -> Result<(), sqlx::Error>;

    /// Locks the accounts in the order of their ids.
    async fn lock(&mut self, organizations: BTreeSet<OrganizationId>) -> Result<(), AttemptError>;

    /// Whether a row is there that only a commit can have left. To be asked under the locks of that commit.
    async fn has(&mut self, marker: Marker) -> Result<bool, AttemptError>;

    /// Locks the organizations of the batch and reads everything that its decision needs.
    async fn read(&mut self, clock: &Clock, tasks: &[&Task]) -> Result<Facts, AttemptError>;

    /// Writes what was decided.
    async fn write(&mut self, effects: &Effects) -> Result<(), AttemptError>;

    /// Decides and writes what it can of a demand, in a transaction of its own. Answers what was spent,
    /// each consumption with the place of its task. `screens`: known keys are looked for, rather than failing the call.
    async fn spend(
        &mut self,
        demand: &Demand<'_>,
        clock: Option<Timestamp>,
        screens: bool,
    ) -> Result<Vec<(usize, Consumption)>, AttemptError>;

    /// What of a demand is in the log.
    async fn spent(&mut self, demand: &Demand<'_>) -> Result<Vec<Consumption>, AttemptError>;
}

impl Session for Connection {
    type Place = (Engine, StoreConfig);
    type Backend = Backend;

    async fn open((engine, config): &Self::Place) -> Result<Self, sqlx::Error> {
        Self::open(*engine, config).await
    }

    fn backend(&self) -> Option<Backend> {
        self.backend()
    }

    async fn end(&mut self, lost: Backend) -> Result<(), sqlx::Error> {
        self.end(lost).await
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        self.close().await
    }

    async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.begin().await
    }

    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.commit().await
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.rollback().await
    }

    async fn lock(&mut self, organizations: BTreeSet<OrganizationId>) -> Result<(), AttemptError> {
        read::lock_accounts(self, organizations).await.map(drop)
    }

    async fn has(&mut self, marker: Marker) -> Result<bool, AttemptError> {
        writer::exists(self, marker).await
    }

    async fn read(&mut self, clock: &Clock, tasks: &[&Task]) -> Result<Facts, AttemptError> {
        read::read(self, clock, tasks).await
    }

    async fn write(&mut self, effects: &Effects) -> Result<(), AttemptError> {
        write::write(self, effects).await
    }

    async fn spend(
        &mut self,
        demand: &Demand<'_>,
        clock: Option<Timestamp>,
        screens: bool,
    ) -> Result<Vec<(usize, Consumption)>, AttemptError> {
        express::spend(self, demand, clock, screens).await
    }

    async fn spent(&mut self, demand: &Demand<'_>) -> Result<Vec<Consumption>, AttemptError> {
        express::spent(self, demand).await
    }
}
