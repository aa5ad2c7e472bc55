//! Programs that tests run are started by a process of its own, which has none of the tests' files open.
//!
//! A test that starts a program by itself has every file that is open in this process closed in passing, also those that other tests have open in
//! their mounts, and waits for it: what they write is stored then, and where their workers are stopped everybody waits for those.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, ExitStatus, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Pause between two looks at whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What the launcher is asked for, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Starts a program.
    Start(Start),
    /// Tells whether it has ended.
    Wait(u32),
}

/// A program to be started. Strings are bytes as the system takes them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// Its path, or its name.
    pub program: Vec<u8>,
    /// Without its name.
    pub arguments: Vec<Vec<u8>>,
    /// On top of that of the tests; `None` for what is left out of that.
    pub environment: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// That of the tests is left out.
    pub clear: bool,
    /// Where it runs, if not where the tests do.
    pub folder: Option<Vec<u8>>,
    /// The file that what it prints is appended to.
    pub stdout: Vec<u8>,
    /// The same for errors.
    pub stderr: Vec<u8>,
}

/// What the launcher answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The id of the process.
    Started(u32),
    /// It could not be started: the number of the system's error.
    Failed(i32),
    /// How it ended, as `wait` says; `None` while it runs.
    Ended(Option<i32>),
}

struct Launcher {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Started before there is any mount, as whatever serves one is started by it.
static LAUNCHER: Mutex<Option<Launcher>> = Mutex::new(None);

impl Launcher {
    fn start() -> io::Result<Self> {
        const NAME: &str = "headpond-test-launcher";
        let own = std::env::current_exe()?;
        let folder = own.ancestors().find(|folder| folder.join(NAME).is_file());
        let path = folder.ok_or_else(|| {
            io::Error::other(format!("no {NAME} beside {}: `cargo build -p headpond-tests` builds it", own.display()))
        })?;
        let mut command = std::process::Command::new(path.join(NAME));
        #[expect(clippy::disallowed_methods, reason = "it is started before there is any mount")]
        let mut launcher = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (requests, answers) = (launcher.stdin.take(), launcher.stdout.take());
        let (Some(requests), Some(answers)) = (requests, answers) else { return Err(io::Error::other("no pipes")) };
        Ok(Self { requests, answers: BufReader::new(answers) })
    }

    fn ask(request: &Request) -> io::Result<Answer> {
        let mut launcher = LAUNCHER.lock().unwrap_or_else(PoisonError::into_inner);
        let Self { requests, answers } = match &mut *launcher {
            Some(launcher) => launcher,
            none => none.insert(Self::start()?),
        };
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        requests.write_all(line.as_bytes())?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// A program to be run, to be used as [`std::process::Command`].
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    clear: bool,
    folder: Option<PathBuf>,
}

impl Command {
    /// Runs `program`, a path or a name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, arguments: Vec::new(), environment: Vec::new(), clear: false, folder: None }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        arguments.into_iter().for_each(|argument| {
            self.arg(argument);
        });
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.environment.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Sets variables of the environment.
    pub fn envs(&mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> &mut Self {
        variables.into_iter().for_each(|(key, value)| {
            self.env(key, value);
        });
        self
    }

    /// Leaves out the environment of the tests.
    pub const fn env_clear(&mut self) -> &mut Self {
        self.clear = true;
        self
    }

    /// Runs it in `folder`.
    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self) -> io::Result<Output> {
        let [stdout, stderr] = [tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?];
        let status = self.start(stdout.path(), stderr.path())?.wait()?;
        Ok(Output { status, stdout: std::fs::read(stdout.path())?, stderr: std::fs::read(stderr.path())? })
    }

    /// Runs it to its end, whatever it prints.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn status(&self) -> io::Result<ExitStatus> {
        self.output().map(|output| output.status)
    }

    /// Starts it; what it prints is appended to files.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&self, stdout: &Path, stderr: &Path) -> io::Result<Child> {
        let bytes = |text: &OsStr| text.as_bytes().to_vec();
        let file = |path: &Path| std::path::absolute(path).map(|path| bytes(path.as_os_str()));
        let start = Start {
            program: bytes(&self.program),
            arguments: self.arguments.iter().map(|argument| bytes(argument)).collect(),
            environment: self
                .environment
                .iter()
                .map(|(key, value)| (bytes(key), value.as_deref().map(bytes)))
                .collect(),
            clear: self.clear,
            folder: self.folder.as_ref().map(|folder| bytes(folder.as_os_str())),
            stdout: file(stdout)?,
            stderr: file(stderr)?,
        };
        match Launcher::ask(&Request::Start(start))? {
            Answer::Started(pid) => Ok(Child { pid, status: None }),
            Answer::Failed(error) => Err(io::Error::from_raw_os_error(error)),
            answer @ Answer::Ended(_) => Err(unexpected(&answer)),
        }
    }
}

impl From<&Self> for Command {
    fn from(command: &Self) -> Self {
        command.clone()
    }
}

/// All but where its input and output go.
impl From<std::process::Command> for Command {
    fn from(command: std::process::Command) -> Self {
        let owned = |text: &OsStr| text.to_owned();
        Self {
            program: owned(command.get_program()),
            arguments: command.get_args().map(owned).collect(),
            environment: command.get_envs().map(|(key, value)| (owned(key), value.map(owned))).collect(),
            clear: false,
            folder: command.get_current_dir().map(Path::to_owned),
        }
    }
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Child {
    pid: u32,
    status: Option<ExitStatus>,
}

impl Child {
    /// The process id; nobody else's until its end was heard of.
    pub(crate) const fn id(&self) -> u32 {
        self.pid
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match Launcher::ask(&Request::Wait(self.pid))? {
                Answer::Ended(status) => status.map(ExitStatus::from_raw),
                answer => return Err(unexpected(&answer)),
            };
        }
        Ok(self.status)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            #[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
            std::thread::sleep(LOOK);
        }
    }

    /// Sends SIGKILL, unless its end was heard of.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.status.is_none());
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::KILL)?))
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("the launcher of programs answers {answer:?}"))
}
