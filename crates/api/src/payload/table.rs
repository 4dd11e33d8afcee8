//! Answers that are tables: JSON, or CSV for whoever asks for it by `Accept: text/csv`.

use bytes::Bytes;
use poem::http::header::{ACCEPT, VARY};
use poem::http::{HeaderValue, StatusCode};
use poem::{Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use serde::Serialize;

use super::{Documented, JSON, Json, register};
use crate::problem::Problem;

/// The media type of tables.
pub const CSV: &str = "text/csv";

/// Whether the caller would rather have CSV than JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantsCsv(pub bool);

impl<'a> FromRequest<'a> for WantsCsv {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let values = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        Ok(Self(prefers_csv(values.flat_map(|value| value.split(',')))))
    }
}

/// Whether CSV has a higher quality than JSON among the ranges of an `Accept` header. What is not named has what `*/*`
/// has, and JSON is what an answer is where nobody says.
fn prefers_csv<'a>(ranges: impl Iterator<Item = &'a str>) -> bool {
    let (mut csv, mut json) = (0.0_f32, 0.0_f32);
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse).unwrap_or(0.0);
        match name.as_str() {
            CSV => csv = csv.max(quality),
            JSON | "application/*" | "*/*" => json = json.max(quality),
            _ => {}
        }
    }
    csv > 0.0 && csv >= json
}

/// What can be answered as a table.
pub trait Tabular {
    /// The names of the columns.
    const COLUMNS: &'static [&'static str];
}

/// A table: as JSON, or as lines of CSV.
#[derive(Debug)]
pub enum Table<T> {
    /// Everything in one object.
    Json(T),
    /// A header, and a line for each row.
    Csv(Body),
}

impl<T: Tabular> Table<T> {
    /// The table of these rows as CSV.
    pub fn csv<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Result<Self, Problem> {
        Ok(Self::Csv(Body::from_bytes(lines(rows, Some(T::COLUMNS))?)))
    }
}

/// Rows as lines of CSV, the header first where there is one.
pub fn lines<R: Serialize>(rows: impl IntoIterator<Item = R>, header: Option<&[&str]>) -> Result<Bytes, Problem> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let internal = |error: csv::Error| Problem::internal(error.to_string());
    if let Some(header) = header {
        writer.write_record(header).map_err(internal)?;
    }
    for row in rows {
        writer.serialize(row).map_err(internal)?;
    }
    writer.into_inner().map(Bytes::from).map_err(|error| Problem::internal(error.to_string()))
}

impl<T: Serialize + Send> IntoResponse for Table<T> {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Json(value) => Json(value).into_response(),
            Self::Csv(body) => Response::builder().content_type("text/csv; charset=utf-8; header=present").body(body),
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

impl<T: Documented + Tabular> ApiResponse for Table<T> {
    fn meta() -> MetaResponses {
        let csv = MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("A header, and a line for each row, with `Accept: text/csv`."),
            example: Some(T::COLUMNS.join(",").into()),
            ..MetaSchema::new("string")
        }));
        let content = vec![
            MetaMediaType { content_type: JSON, schema: T::schema_ref() },
            MetaMediaType { content_type: CSV, schema: csv },
        ];
        let status = Some(StatusCode::OK.as_u16());
        let response = MetaResponse { description: "Done.", status, status_range: None, content, headers: Vec::new() };
        MetaResponses { responses: vec![response] }
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            ("text/csv", true),
            ("Text/CSV; charset=utf-8", true),
            ("text/csv, */*;q=0.1", true),
            ("application/json;q=0.5, text/csv;q=0.9", true),
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/csv;q=0.9", false),
            ("text/csv;q=0", false),
            ("text/html", false),
        ] {
            assert_eq!(prefers_csv(accept.split(',')), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_table_begins_with_its_header_even_where_it_has_no_rows() {
        let header = ["start", "note"];
        let written = |rows: &[(&str, &str)]| lines(rows, Some(&header)).unwrap();
        assert_eq!(written(&[]), "start,note\n");
        assert_eq!(written(&[("a", "b, \"c\"")]), "start,note\na,\"b, \"\"c\"\"\"\n");
    }
}
