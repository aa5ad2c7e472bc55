//! Where a listing begins or goes on, for drivers that order keys themselves.

use bytes::Bytes;

use crate::{ListRequest, Listed, UfsError, UfsErrorKind};

/// Most results of a page when the request leaves it open; what S3 gives.
const DEFAULT_PAGE: usize = 1000;

/// The lower bound of a page. As text (`continuation`) it is `o` or `p` and the key in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// At the first key.
    Start,
    /// Behind this key; keys that start with it follow.
    After(Bytes),
    /// Behind every key that starts with this common prefix.
    Past(Bytes),
}

impl Resume {
    /// Where `request` begins; its continuation wins over its `start_after`.
    pub(crate) fn of(request: &ListRequest) -> Result<Self, UfsError> {
        let Some(token) = &request.continuation else {
            return Ok(request.start_after.as_ref().map_or(Self::Start, |key| Self::After(key.0.clone())));
        };
        let key = token.get(1..).and_then(|digits| hex::decode(digits).ok()).map(Bytes::from);
        match (token.as_bytes().first(), key) {
            (Some(b'o'), Some(key)) => Ok(Self::After(key)),
            (Some(b'p'), Some(key)) => Ok(Self::Past(key)),
            _ => Err(UfsError::new(
                UfsErrorKind::Invalid,
                format!("{token:?} is not a continuation of this store: begin the listing again"),
            )),
        }
    }

    /// The continuation behind `last`.
    pub(crate) fn token(last: &Listed) -> String {
        match last {
            Listed::Object(meta) => format!("o{}", hex::encode(meta.key.as_bytes())),
            Listed::Prefix(prefix) => format!("p{}", hex::encode(prefix.as_bytes())),
        }
    }

    /// Whether `key` itself lies behind the bound.
    pub(crate) fn admits(&self, key: &[u8]) -> bool {
        match self {
            Self::Start => true,
            Self::After(after) => key > after.as_ref(),
            Self::Past(prefix) => key > prefix.as_ref() && !key.starts_with(prefix),
        }
    }

    /// Whether keys that start with `prefix` may lie behind the bound.
    pub(crate) fn may_admit_below(&self, prefix: &[u8]) -> bool {
        match self {
            Self::After(after) => self.admits(prefix) || after.starts_with(prefix),
            Self::Past(past) => self.admits(prefix) || (past.starts_with(prefix) && past.as_ref() != prefix),
            Self::Start => true,
        }
    }
}

/// How many results a page of `request` has at most.
pub(crate) fn page_size(request: &ListRequest) -> usize {
    match usize::try_from(request.max_keys) {
        Ok(0) | Err(_) => DEFAULT_PAGE,
        Ok(most) => most,
    }
}
