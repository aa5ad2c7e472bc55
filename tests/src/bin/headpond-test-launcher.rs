//! Starts programs for tests, which ask for it over standard input, and tells them how these ended. See `headpond_tests::Command`.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::{self, BufRead as _, Write as _},
    os::unix::{
        ffi::OsStringExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, Stdio},
};

use headpond_tests::launcher::{Answer, Request, Start};
use rustix::process::Signal;

fn main() -> io::Result<()> {
    let mut children = HashMap::new();
    let mut out = io::stdout().lock();
    // At the end of the tests the kernel kills what still runs.
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Start(start) => match spawn(start) {
                Ok(child) => {
                    let pid = child.id();
                    children.insert(pid, child);
                    Answer::Started(pid)
                }
                Err(error) => Answer::Failed(error.raw_os_error().unwrap_or(libc::EINVAL)),
            },
            Request::Wait(pid) => Answer::Ended(status(&mut children, pid)?),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this is the process that has none of the tests' files open")]
fn spawn(start: Start) -> io::Result<Child> {
    let Start { program, arguments, environment, clear, folder, stdout, stderr } = start;
    let text = OsString::from_vec;
    let append = |path| File::options().create(true).append(true).open(text(path));
    let mut command = Command::new(text(program));
    if clear {
        command.env_clear();
    }
    command.args(arguments.into_iter().map(text));
    for (key, value) in environment {
        match value {
            Some(value) => command.env(text(key), text(value)),
            None => command.env_remove(text(key)),
        };
    }
    if let Some(folder) = folder {
        command.current_dir(text(folder));
    }
    command.stdin(Stdio::null()).stdout(append(stdout)?).stderr(append(stderr)?);
    // SAFETY: prctl is async-signal-safe and touches no memory of the parent.
    #[expect(unsafe_code, reason = "pre_exec is the only way to set the parent-death signal")]
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    command.spawn()
}

/// How a process ended, once; `None` while it runs. Until then its id is no other's.
fn status(children: &mut HashMap<u32, Child>, pid: u32) -> io::Result<Option<i32>> {
    let Some(child) = children.get_mut(&pid) else { return Ok(None) };
    let status = child.try_wait()?.map(|status| status.into_raw());
    if status.is_some() {
        children.remove(&pid);
    }
    Ok(status)
}
