//! The style sheet, the icon and the one script, compiled in. Their names contain their digests, so that browsers keep them for good and
//! a new release is seen at once.

use std::fmt::Write as _;
use std::sync::LazyLock;

use poem::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use poem::http::{HeaderValue, StatusCode};
use poem::{Body, Request, Response};
use sha2::{Digest as _, Sha256};

use super::answer::protect;
use crate::problem::{Code, Problem};

/// How many bytes of a digest stand in a name.
const DIGEST_BYTES: usize = 8;

/// A file.
pub struct Asset {
    name: String,
    tag: String,
    content_type: &'static str,
    content: &'static str,
}

/// The style of all pages.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("../../assets/dashboard.css")));

/// What keeps the balances of an organization's page as they are.
pub static LIVE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("live", "js", "text/javascript; charset=utf-8", include_str!("../../assets/live.js")));

/// The icon in a browser's tab.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("../../assets/icon.svg")));

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let bytes = Sha256::digest(content);
        let digest = bytes.iter().take(DIGEST_BYTES).fold(String::new(), |mut digest, byte| {
            // Writing into a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
            digest
        });
        Self { name: format!("{stem}.{digest}.{extension}"), tag: format!("\"{digest}\""), content_type, content }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}/assets/{}", super::PATH, self.name)
    }
}

/// The answer to a request for the file of that name.
pub fn answer(request: &Request, name: &str) -> Result<Response, Problem> {
    let assets = [&*STYLE, &*LIVE, &*ICON];
    let asset = assets.into_iter().find(|asset| asset.name == name).ok_or_else(|| Problem::new(Code::UnknownPath))?;
    let is_known = request.header(IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|it| it.trim() == asset.tag));
    let mut response = if is_known {
        Response::builder().status(StatusCode::NOT_MODIFIED).finish()
    } else {
        Response::builder().content_type(asset.content_type).body(Body::from(asset.content))
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(ETAG, HeaderValue::from_str(&asset.tag).map_err(|error| Problem::internal(error.to_string()))?);
    protect(headers);
    Ok(response)
}
