//! What is wrong with which field.

use std::borrow::Cow;
use std::fmt;

use poem_openapi::Object;
use serde::Serialize;

/// One field, parameter or header that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct FieldError {
    /// Where: a path such as `items[3].quantity`, a parameter's name, or a header's.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// At least one thing that is wrong with a request's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// One error.
    pub fn one(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(vec![FieldError { field: field.into(), message: message.into().into_owned() }])
    }

    /// The errors.
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }

    /// The errors.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, FieldError { field, message }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            if field.is_empty() {
                write!(f, "{separator}{message}")?;
            } else {
                write!(f, "{separator}{field}: {message}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

/// A name that came from outside, if it is safe to say back: short, and of characters that names are made of. Anything
/// else could be a secret in the wrong place, or markup.
pub fn presentable(name: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!name.is_empty() && name.len() <= 40 && name.bytes().all(plain)).then_some(name)
}
