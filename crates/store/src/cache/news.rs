//! What processes tell each other.

use std::collections::BTreeMap;

use multicredit_domain::{ActionType, Credits, OrganizationId, PlanCode, Spending, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most news that waits to be sent. Beyond it Redis cannot follow, and everybody is told to forget everything.
pub(super) const WAITING_MAX: usize = 65_536;

/// Something has changed. It has happened already: news follows the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// Credits were spent, `count` times, and nothing else has happened since movement `sequence - count`.
    Spent { organization: OrganizationId, count: i64, sequence: i64, available: Credits, at: Timestamp },
    /// Anything else has moved credits, up to movement `sequence`.
    Moved { organization: OrganizationId, sequence: i64 },
    /// Nobody knows what has moved.
    Lost { organization: OrganizationId },
    /// An action has another price.
    Action(ActionType),
    /// A plan has other terms.
    Plan(PlanCode),
    /// A user has other organizations.
    User(String),
    /// News was lost.
    Everything,
}

/// News with its sender, who has taken it in already and does not listen to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) from: Uuid,
    pub(super) news: Vec<News>,
}

impl Message {
    /// What a text tells whoever is `reader`. A text that makes no sense tells that anything may have changed.
    pub(super) fn told(text: &[u8], reader: Uuid) -> Vec<News> {
        match serde_json::from_slice::<Self>(text) {
            Ok(message) if message.from == reader => Vec::new(),
            Ok(message) => message.news,
            Err(_) => vec![News::Everything],
        }
    }

    /// The text of a message.
    pub(super) fn text(from: Uuid, news: Vec<News>) -> String {
        serde_json::to_string(&Self { from, news }).unwrap_or_default()
    }
}

impl News {
    pub(super) const fn spent(organization: OrganizationId, spending: &Spending) -> Self {
        let Spending { count, sequence, available, at } = *spending;
        Self::Spent { organization, count, sequence, available, at }
    }

    /// The organization whose balance it is about.
    const fn organization(&self) -> Option<OrganizationId> {
        match self {
            Self::Spent { organization, .. } | Self::Moved { organization, .. } | Self::Lost { organization } => {
                Some(*organization)
            }
            Self::Action(_) | Self::Plan(_) | Self::User(_) | Self::Everything => None,
        }
    }
}

/// Puts together what can be said at once: one message for each organization.
pub(super) fn together(news: impl IntoIterator<Item = News>) -> Vec<News> {
    let mut others = Vec::new();
    let mut by_organization: BTreeMap<OrganizationId, News> = BTreeMap::new();
    for item in news {
        let Some(organization) = item.organization() else {
            others.push(item);
            continue;
        };
        let merged = match by_organization.remove(&organization) {
            Some(before) => merge(organization, &before, item),
            None => item,
        };
        by_organization.insert(organization, merged);
    }
    others.extend(by_organization.into_values());
    others
}

fn merge(organization: OrganizationId, before: &News, news: News) -> News {
    match (before, &news) {
        (News::Lost { .. }, _) | (_, News::Lost { .. }) => News::Lost { organization },
        (News::Spent { count: first, sequence: middle, .. }, News::Spent { count, sequence, available, at, .. })
            if middle + count == *sequence =>
        {
            News::Spent { organization, count: first + count, sequence: *sequence, available: *available, at: *at }
        }
        (
            News::Spent { sequence: one, .. } | News::Moved { sequence: one, .. },
            News::Spent { sequence: other, .. } | News::Moved { sequence: other, .. },
        ) => News::Moved { organization, sequence: *one.max(other) },
        _ => news,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(organization: u128, count: i64, sequence: i64) -> News {
        News::Spent {
            organization: OrganizationId::new(Uuid::from_u128(organization)),
            count,
            sequence,
            available: Credits::ZERO,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn spending_that_follows_is_told_as_one_and_a_gap_as_a_movement() {
        let told = together([spent(1, 2, 2), spent(2, 1, 9), spent(1, 3, 5)]);
        assert_eq!(told, [spent(1, 5, 5), spent(2, 1, 9)]);
        let organization = OrganizationId::new(Uuid::from_u128(1));
        assert_eq!(together([spent(1, 2, 2), spent(1, 1, 4)]), [News::Moved { organization, sequence: 4 }]);
        assert_eq!(
            together([News::Moved { organization, sequence: 7 }, spent(1, 1, 4)]),
            [News::Moved { organization, sequence: 7 }]
        );
        assert_eq!(
            together([spent(1, 1, 4), News::Lost { organization }, spent(1, 1, 5)]),
            [News::Lost { organization }]
        );
    }

    #[test]
    fn news_is_read_as_it_was_written() {
        let news = vec![spent(1, 2, 3), News::User("u".to_owned()), News::Everything];
        let (sender, reader) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let text = Message::text(sender, news.clone());
        assert_eq!(Message::told(text.as_bytes(), reader), news);
        assert_eq!(Message::told(text.as_bytes(), sender), []);
        assert_eq!(Message::told(b"nonsense", reader), [News::Everything]);
    }
}
