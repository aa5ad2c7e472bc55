//! How many descriptors this process may have open (`RLIMIT_NOFILE`, getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit as it is now; `usize::MAX` when there is none.
#[must_use]
pub fn limit() -> usize {
    as_count(getrlimit(Resource::Nofile).current)
}

/// Raises the limit to the most that this process may have, and answers what it is then. For processes that serve: many start with
/// a limit for those who use select(2).
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => as_count(maximum),
        Err(error) => {
            tracing::debug!(%error, "the limit of open descriptors stays as it is");
            as_count(current)
        }
    }
}

fn as_count(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_most_that_is_allowed() {
        let most = as_count(getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise_limit(), most);
        assert_eq!(limit(), most);
    }
}
