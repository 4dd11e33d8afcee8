//! One request on a connection of its own, and what its answer means.
//!
//! The client of the other tests takes a lost connection for a failure of the test. Here it is an answer: unknown.

use std::net::SocketAddr;
use std::time::Duration;

use multicredit::problem::Code;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Asked;

/// After how long an answer no longer comes: a server that stands still gives none.
const PATIENCE: Duration = Duration::from_secs(20);

/// The refusals that the requests of a run may meet.
const REFUSALS: &[&str] = &[
    "insufficient_credits",
    "hold_finalized",
    "hold_expired",
    "over_refund",
    "lot_expired",
    "idempotency_mismatch",
    "too_many_requests",
    "overloaded",
    "unavailable",
];

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done {
        /// What was answered, byte for byte; of an item of a batch, its consumption.
        body: String,
        /// Whether it was done before.
        is_replay: bool,
    },
    /// It was not done.
    Refused {
        /// Why.
        code: String,
    },
    /// It was done or not.
    Unknown(String),
}

impl Outcome {
    /// Whether it may be otherwise when it is sent again: the server was not able to say.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Done { .. } => false,
            Self::Refused { code } => ["too_many_requests", "overloaded", "unavailable"].contains(&code.as_str()),
            Self::Unknown(_) => true,
        }
    }

    /// Under which id it is to be looked for, where that was answered instead of what came of it.
    pub fn to_look_up(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => why.strip_prefix("outcome_unknown ").filter(|id| !id.is_empty()),
            _ => None,
        }
    }

    /// The body, if it was done.
    pub fn body(&self) -> Option<&str> {
        match self {
            Self::Done { body, .. } => Some(body),
            _ => None,
        }
    }
}

/// Sends one request, or the items of a batch. One that is `abandoned` is sent, and the client goes away.
///
/// # Errors
///
/// An answer that is none of the three.
pub async fn exchange(
    address: SocketAddr,
    api_key: &str,
    asked: &[Asked],
    is_abandoned: bool,
) -> Result<Vec<Outcome>, String> {
    let said = tokio::time::timeout(PATIENCE, say(address, &message(api_key, asked), is_abandoned)).await;
    let answer = match said {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Ok(vec![Outcome::Unknown(error.to_string()); asked.len()]),
        Err(_) => return Ok(vec![Outcome::Unknown("no answer in time".to_owned()); asked.len()]),
    };
    let text = String::from_utf8(answer).map_err(|error| error.to_string())?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(vec![Outcome::Unknown("no answer".to_owned()); asked.len()]);
    };
    let head = head.to_lowercase();
    let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
    if length.is_none_or(|length| length > body.len()) {
        return Ok(vec![Outcome::Unknown("half an answer".to_owned()); asked.len()]);
    }
    let status: u16 = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| text.clone())?;
    let json: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {text}"))?;
    if !(200..300).contains(&status) {
        // A grant that has ended before it was asked for once more.
        if json["code"] == "invalid_request" && asked[0].path.as_deref().is_some_and(|path| path.ends_with("/grants")) {
            return Ok(vec![Outcome::Refused { code: "invalid_request".to_owned() }]);
        }
        return Ok(vec![refusal(status, &json).map_err(|error| format!("{error}: {text}"))?; asked.len()]);
    }
    if asked[0].path.is_some() {
        let is_replay = header(&head, "idempotent-replayed") == Some("true");
        return Ok(vec![Outcome::Done { body: body.to_owned(), is_replay }]);
    }
    let results = json["results"].as_array().filter(|results| results.len() == asked.len());
    results.ok_or_else(|| text.clone())?.iter().map(item).collect()
}

/// What came of an item of a batch.
fn item(result: &Value) -> Result<Outcome, String> {
    match result["status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        Some(201) => Ok(Outcome::Done {
            body: result["consumption"].to_string(),
            is_replay: result["replayed"].as_bool().unwrap_or(false),
        }),
        Some(status) => refusal(status, &result["problem"]).map_err(|error| format!("{error}: {result}")),
        None => Err(result.to_string()),
    }
}

fn refusal(status: u16, problem: &Value) -> Result<Outcome, String> {
    let name = problem["code"].as_str().unwrap_or_default();
    let code = Code::ALL.iter().find(|code| code.as_str() == name).ok_or("an undocumented problem")?;
    if code.status().as_u16() != status || problem["type"] != code.type_uri() {
        return Err("a problem that contradicts itself".to_owned());
    }
    match name {
        "outcome_unknown" => {
            let id = problem["consumption_id"].as_str().unwrap_or_default();
            Ok(Outcome::Unknown(format!("{name} {id}")))
        }
        name if REFUSALS.contains(&name) => Ok(Outcome::Refused { code: name.to_owned() }),
        _ => Err("a refusal that nothing here can meet".to_owned()),
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn message(api_key: &str, asked: &[Asked]) -> String {
    let Asked { path, key, body, .. } = &asked[0];
    let (path, key, body) = if let Some(path) = path {
        let header = if asked[0].is_keyed { format!("Idempotency-Key: {key}\r\n") } else { String::new() };
        (path.as_str(), header, body.to_string())
    } else {
        let items: Vec<&Value> = asked.iter().map(|asked| &asked.body).collect();
        ("/v1/consume/batch", String::new(), json!({ "items": items }).to_string())
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {api_key}\r\n{key}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn say(address: SocketAddr, message: &str, is_abandoned: bool) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(message.as_bytes()).await?;
    if is_abandoned {
        // Long enough for it to be in the middle of anything.
        tokio::time::sleep(Duration::from_millis(message.len() as u64 % 7)).await;
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
