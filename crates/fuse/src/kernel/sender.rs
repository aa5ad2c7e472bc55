//! Who sends a request.

use fuser::Request;

/// What stands in place of a user where the kernel says none: on mounts that may be mapped to other users, in all requests that make nothing.
const UNSAID: u32 = u32::MAX;

/// Whether root sends it, whose changes leave a file the right to act as its owner or group. The sender waits for the answer, so its process is still there;
/// where the system does not show it, the sender is taken for anybody.
pub(super) fn is_root(request: &Request) -> bool {
    match request.uid() {
        UNSAID => {
            let status = std::fs::read_to_string(format!("/proc/{}/status", request.pid())).unwrap_or_default();
            file_system_user(&status) == Some(0)
        }
        user => user == 0,
    }
}

/// The user as whom a process acts on files, from its `status` in proc(5): the last of four.
fn file_system_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_four_users_acts_on_files() {
        let status = "Name:\tsh\nUid:\t1000\t0\t0\t7\nGid:\t1\t2\t3\t4\n";
        assert_eq!(file_system_user(status), Some(7));
        assert_eq!(file_system_user("Name:\tUid:\n"), None);
        let own = std::fs::read_to_string("/proc/self/status").expect("is there");
        assert_eq!(file_system_user(&own), Some(rustix::process::geteuid().as_raw()));
    }
}
