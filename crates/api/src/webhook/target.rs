//! The URL of an endpoint, as far as it can be judged without asking anybody.

use poem::http::Uri;
use poem::http::uri::PathAndQuery;
use thiserror::Error;

use crate::limits::WEBHOOK_URL_MAX_BYTES;

/// Why a URL cannot be an endpoint's. Each says what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTarget {
    /// It is longer than [`WEBHOOK_URL_MAX_BYTES`].
    #[error("must be at most {WEBHOOK_URL_MAX_BYTES} bytes")]
    TooLong,
    /// It is none, or not absolute, or of another scheme.
    #[error("must be an absolute URL that begins with https:// or http://")]
    NotHttp,
    /// It has a user or a password in it, which would show wherever the URL shows.
    #[error("must not contain a user or a password")]
    Credentials,
    /// It has a part after `#`, which is never sent.
    #[error("must not contain a fragment")]
    Fragment,
}

/// Where a webhook is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether by TLS.
    pub is_secure: bool,
    /// The name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// The port, that of the scheme unless the URL names one.
    pub port: u16,
    /// What the `Host` header says: the host, and the port if the URL names one.
    pub authority: String,
    /// Path and query, `/` at least.
    pub path: String,
}

impl Target {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        if url.len() > WEBHOOK_URL_MAX_BYTES {
            return Err(InvalidTarget::TooLong);
        }
        // The parser forgets it without a word.
        if url.contains('#') {
            return Err(InvalidTarget::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| InvalidTarget::NotHttp)?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(InvalidTarget::NotHttp),
        };
        let authority = uri.authority().ok_or(InvalidTarget::NotHttp)?.as_str();
        if authority.contains('@') {
            return Err(InvalidTarget::Credentials);
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        // A port that is none (`host:`, `host:99999`) is no reason to guess another one.
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match uri.port_u16() {
            Some(port) if port > 0 => port,
            None if !has_port => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            _ => return Err(InvalidTarget::NotHttp),
        };
        if host.is_empty() {
            return Err(InvalidTarget::NotHttp);
        }
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_secure, host: host.to_owned(), port, authority: authority.to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        let cases = [
            ("https://example.com", (true, "example.com", 443, "example.com", "/")),
            ("HTTP://Example.com:8080/a/b?c=d", (false, "Example.com", 8080, "Example.com:8080", "/a/b?c=d")),
            ("https://example.com?c=d", (true, "example.com", 443, "example.com", "/?c=d")),
            ("http://[2001:db8::1]:81/", (false, "2001:db8::1", 81, "[2001:db8::1]:81", "/")),
            ("http://[::1]", (false, "::1", 80, "[::1]", "/")),
        ];
        for (url, (is_secure, host, port, authority, path)) in cases {
            let (host, authority, path) = (host.to_owned(), authority.to_owned(), path.to_owned());
            assert_eq!(Target::parse(url), Ok(Target { is_secure, host, port, authority, path }), "{url}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        let long = format!("https://example.com/{}", "a".repeat(WEBHOOK_URL_MAX_BYTES));
        let cases = [
            ("", InvalidTarget::NotHttp),
            ("/hook", InvalidTarget::NotHttp),
            ("example.com", InvalidTarget::NotHttp),
            ("ftp://example.com/", InvalidTarget::NotHttp),
            ("file:///etc/passwd", InvalidTarget::NotHttp),
            ("gopher://example.com/", InvalidTarget::NotHttp),
            ("https://", InvalidTarget::NotHttp),
            ("https://:443/", InvalidTarget::NotHttp),
            ("https://example.com:99999/", InvalidTarget::NotHttp),
            ("https://example.com:0/", InvalidTarget::NotHttp),
            ("https://exa mple.com/", InvalidTarget::NotHttp),
            ("https://example.com/\r\nX-Admin: 1", InvalidTarget::NotHttp),
            ("https://user@example.com/", InvalidTarget::Credentials),
            ("https://user:password@example.com/", InvalidTarget::Credentials),
            ("https://example.com/#part", InvalidTarget::Fragment),
            ("https://example.com#@169.254.169.254/", InvalidTarget::Fragment),
            (&long, InvalidTarget::TooLong),
        ];
        for (url, reason) in cases {
            assert_eq!(Target::parse(url), Err(reason), "{url:?}");
        }
    }
}
