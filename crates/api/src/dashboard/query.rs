//! The query string of a page: a few known names, each once. What a page does not know is left alone: links to pages
//! are bookmarked and decorated by others.

use std::fmt::Write as _;

use poem::Request;

use crate::page::{self, Position};
use crate::problem::Problem;

/// The pairs of a query string.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The query of a request.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        if request.uri().query().is_none() {
            return Ok(Self::default());
        }
        request.params().map(Self).map_err(|_| Problem::invalid("", "the query string is malformed"))
    }

    /// The value of that name; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.next().filter(|value| !value.is_empty())
    }

    /// The position after which the page begins.
    pub fn cursor<P: Position>(&self) -> Result<Option<P>, Problem> {
        self.get("cursor").map(page::decode).transpose()
    }
}

/// A value as it stands in a query string.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&Request::builder().uri_str(format!("/dashboard?{text}")).finish()).unwrap()
    }

    #[test]
    fn what_is_escaped_comes_back_and_what_is_empty_is_none() {
        let text = "M\u{fc}ller & S\u{f6}hne = <100%>";
        assert_eq!(query(&format!("q={}", escape(text))).get("q"), Some(text));
        assert_eq!(query("q=").get("q"), None);
        assert_eq!(query("other=1").get("q"), None);
    }
}
