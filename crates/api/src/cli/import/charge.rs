//! Charging one batch: every line gets a verdict, or the import ends.

use multicredit_domain::{Credits, Refusal};
use multicredit_store::{ConsumeItem, Store, StoreError};

use super::entry::Entry;
use super::organizations::Organizations;
use super::patience::{Patience, may_pass, patiently};
use super::reader::Batch;
use super::tally::Verdict;
use crate::occurrence::OccurrenceWindow;

/// Charges batches.
pub struct Charger {
    store: Store,
    organizations: Organizations,
}

/// A line that is sent to the ledger.
struct Sent {
    line: u64,
    item: ConsumeItem,
}

impl Charger {
    /// Charges what is in `store`; with `create_missing`, organizations that are not are made with these credits.
    pub fn new(store: Store, create_missing: Option<Credits>) -> Self {
        Self { store: store.clone(), organizations: Organizations::new(store, create_missing) }
    }

    /// Charges every line of the batch and answers what became of each, by line.
    pub async fn charge(&mut self, batch: Batch) -> Result<Vec<(u64, Verdict)>, StoreError> {
        let entries = batch.lines.iter().filter_map(|(_, entry)| entry.as_ref().ok());
        self.organizations.meet(entries.map(Entry::organization)).await?;
        let now = patiently(async || self.store.now().await).await?;
        // An event may lie as far back as it likes, since its file may; one from the future is a mistake.
        let window = OccurrenceWindow::until(now);

        let mut verdicts = Vec::with_capacity(batch.lines.len());
        let mut sent = Vec::with_capacity(batch.lines.len());
        for (line, entry) in batch.lines {
            match entry.and_then(|entry| self.address(entry, window)) {
                Ok(item) => sent.push(Sent { line, item }),
                Err(problem) => verdicts.push((line, Verdict::Invalid(problem))),
            }
        }
        self.send(sent, &mut verdicts).await?;
        verdicts.sort_unstable_by_key(|(line, _)| *line);
        Ok(verdicts)
    }

    /// The entry with its organization, or what is wrong with it.
    fn address(&self, entry: Entry, window: OccurrenceWindow) -> Result<ConsumeItem, String> {
        let organization_id = self.organizations.get(entry.organization());
        let organization_id = organization_id.ok_or_else(|| Refusal::UnknownOrganization.to_string())?;
        entry.into_item(organization_id, window).map_err(|errors| errors.to_string())
    }

    /// Sends the lines, and those again, in their order, that met a failure which may pass.
    async fn send(&self, mut sent: Vec<Sent>, verdicts: &mut Vec<(u64, Verdict)>) -> Result<(), StoreError> {
        let mut patience = Patience::new();
        while !sent.is_empty() {
            let answers = self.store.consume_many(sent.iter().map(|sent| sent.item.clone()).collect()).await;
            let count_before = sent.len();
            let mut failure = None;
            let mut failed = Vec::new();
            for (sent, answer) in sent.into_iter().zip(answers) {
                match Verdict::of(answer) {
                    Ok(verdict) => verdicts.push((sent.line, verdict)),
                    Err(error) => {
                        // Of several, one that does not pass decides.
                        if failure.as_ref().is_none_or(may_pass) {
                            failure = Some(error);
                        }
                        failed.push(sent);
                    }
                }
            }
            sent = failed;
            if sent.len() < count_before {
                patience = Patience::new();
            }
            if let Some(error) = failure {
                patience.wait(error).await?;
            }
        }
        Ok(())
    }
}
