//! Who asks: the user that this client's certificate names, or else the one that its process runs as.
//!
//! A client speaks for one user, so what it keeps in memory may be shown to that user without asking again. A mount for other
//! users has to run as root; the kernel then checks what each of them may do.

use headpond_proto::v1;
use headpond_transport::Role;
use rustix::process::{getegid, geteuid, getgroups};

/// Whom masters are to check permissions for: the user of a certificate with that role, else as of [`of_process`].
pub(crate) fn of(role: Option<Role>) -> Option<v1::Caller> {
    match role {
        Some(Role::User(user)) => Some(v1::Caller { uid: user.uid, gids: user.gids }),
        Some(Role::Node | Role::Admin) | None => of_process(),
    }
}

/// User and first group of `caller`, or else of this process.
pub(crate) fn user(caller: Option<&v1::Caller>) -> (u32, u32) {
    let known = caller.and_then(|caller| Some((caller.uid, *caller.gids.first()?)));
    known.unwrap_or_else(|| (geteuid().as_raw(), getegid().as_raw()))
}

/// This process's effective user and all its groups. `None` for root, whom
/// permissions do not bind.
fn of_process() -> Option<v1::Caller> {
    // Without its further groups a process has fewer rights, never more.
    let further = getgroups().unwrap_or_default();
    caller(geteuid().as_raw(), getegid().as_raw(), further.into_iter().map(rustix::process::Gid::as_raw))
}

fn caller(uid: u32, gid: u32, further: impl Iterator<Item = u32>) -> Option<v1::Caller> {
    let gids = std::iter::once(gid).chain(further.filter(|other| *other != gid)).collect();
    (uid != 0).then_some(v1::Caller { uid, gids })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_with_all_groups_once_and_root_is_the_operator() {
        let expected = v1::Caller { uid: 7, gids: vec![8, 9] };
        assert_eq!(caller(7, 8, [8, 9].into_iter()), Some(expected));
        assert_eq!(caller(0, 8, [9].into_iter()), None);
    }
}
