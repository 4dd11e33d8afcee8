//! A user, by the name that the customer's own system has for them.

use poem_openapi::registry::MetaSchema;
use serde::Serializer;

use super::Text;
use super::text::{Line, Reason};

/// A user as the customer's own system calls them: 1 to 200 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(Line<{ Self::MAX_CHARS }>);

impl UserId {
    /// The most characters it may have: as many as an actor's name, which is often a user's.
    pub const MAX_CHARS: usize = 200;

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Text for UserId {
    const NAME: &'static str = "UserId";

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some("What the customer's own system calls the user."),
            example: Some("user-42".into()),
            ..<Line<{ Self::MAX_CHARS }> as Text>::schema()
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        Line::parse(text).map(Self)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text::write(&self.0, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_1_to_200_characters_of_any_script_without_control_characters() {
        for good in ["u", "user/42@example.com", "Jürgen Groß", &"\u{1f600}".repeat(200)] {
            assert_eq!(UserId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\0b", "a\nb", "\u{85}", &"u".repeat(201)] {
            assert!(UserId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
