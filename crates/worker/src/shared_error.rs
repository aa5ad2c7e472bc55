//! An error that several waiters get.

use std::{fmt, sync::Arc};

use headpond_types::Error;

/// One error, told to everybody who waited for the same thing.
#[derive(Clone, Debug)]
pub(crate) struct SharedError(Arc<Error>);

impl SharedError {
    /// The same error for one waiter, with its causes.
    pub(crate) fn to_error(&self) -> Error {
        let error = Error::new(self.0.kind(), self.0.message());
        if std::error::Error::source(&*self.0).is_some() {
            error.with_source(Cause(Arc::clone(&self.0)))
        } else {
            error
        }
    }
}

impl From<Error> for SharedError {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

/// The cause of a shared error; stands for `self.0.source()`, which is known to exist.
#[derive(Debug)]
struct Cause(Arc<Error>);

impl Cause {
    fn inner(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().map_or(Ok(()), |cause| write!(f, "{cause}"))
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner().and_then(std::error::Error::source)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use headpond_types::ErrorKind;

    use super::*;

    #[test]
    fn every_waiter_gets_kind_message_and_causes() {
        let error = Error::new(ErrorKind::Unavailable, "get a/b").with_source(std::io::Error::other("reset"));
        let shared = SharedError::from(error);
        for error in [shared.to_error(), shared.clone().to_error()] {
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unavailable, "get a/b"));
            assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("reset"));
        }
        assert!(SharedError::from(Error::new(ErrorKind::Stale, "x")).to_error().source().is_none());
    }
}
