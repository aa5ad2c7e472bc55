//! How many descriptors this process may have open (`RLIMIT_NOFILE`, getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit as it is now; `usize::MAX` when there is none.
#[must_use]
pub fn limit() -> usize {
    as_count(getrlimit(Resource::Nofile).current)
}

/// What a privileged process asks for: the most that Linux allows unless it was told otherwise (`fs.nr_open`).
const ENOUGH: u64 = 1 << 20;

/// Raises the limit to the most that this process may have, and answers what it is then. For processes that serve: many start with
/// a limit for those who use select(2). Whoever has `CAP_SYS_RESOURCE` is not bound by the limit that it was started with.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = maximum.map(|most| most.max(ENOUGH));
    for most in [enough, maximum] {
        match setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
            Ok(()) => return as_count(most),
            Err(error) => tracing::debug!(%error, most, "this many descriptors may not be had"),
        }
    }
    as_count(current)
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
        let raised = raise_limit();
        assert!(raised >= most);
        assert_eq!(limit(), raised);
    }
}
