//! What `headpond up` says once everything runs.

use std::{io::IsTerminal as _, path::Path};

use headpond_fuse::DataPath;
use headpond_runtime::units;

use super::{plan::Plan, pond::Pond};
use crate::{
    failure::{Failure, Result},
    output::{Format, Output, size},
};

/// Where clients look for a master when nobody says.
const DEFAULT_MASTER: &str = "127.0.0.1:7100";

pub(super) fn print(plan: &Plan, pond: &Pond) -> Result<()> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = Output::new(Format::Text);
    let printed = lines(plan, pond, colour).iter().try_for_each(|line| out.line(line)).and_then(|()| out.flush());
    match printed {
        // Nobody reads it; that is no reason to end.
        Err(Failure::PipeClosed) | Ok(()) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn lines(plan: &Plan, pond: &Pond, colour: bool) -> Vec<String> {
    let bold = |text: &str| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let row = |name: &str, what: String, how: String| format!("  {} {what:<34} {how}", bold(&format!("{name:<8}")));
    let mut lines = vec![bold("headpond is up"), String::new()];

    let sync = plan.sync_interval.map_or_else(|| "never".to_owned(), units::format_duration);
    let checked = match sync.as_str() {
        "never" => "never checked for changes".to_owned(),
        "0s" => "checked at every use".to_owned(),
        every => format!("checked for changes every {every}"),
    };
    let mode = if plan.read_only { "read only" } else { "read write" };
    lines.push(row("store", plan.store.to_string(), format!("{mode}, {checked}")));
    if let Some(mount) = pond.mount() {
        let how = match mount.data_path() {
            DataPath::Passthrough => "cached files are read by the kernel".to_owned(),
            DataPath::Daemon { reason } => format!("read through this process: {reason}"),
        };
        lines.push(row("mount", shown(mount.mountpoint()), how));
    }
    let master = pond.master().map(|master| master.address().to_string()).unwrap_or_default();
    lines.push(row("master", master.clone(), format!("state in {}", shown(&plan.settings.master.state_dir))));
    let worker = pond.worker().map(|worker| worker.address().to_string()).unwrap_or_default();
    let caches = plan.settings.worker.dirs.iter();
    let caches: Vec<_> = caches.map(|dir| format!("{} in {}", size(dir.capacity, true), shown(&dir.path))).collect();
    lines.push(row("worker", worker, format!("cache of {}", caches.join(", "))));
    if let Some(http) = pond.http() {
        lines.push(row("metrics", format!("http://{http}"), "/metrics /healthz /readyz".to_owned()));
    }

    if let Some(reason) = pond.unmounted() {
        lines.extend([String::new(), format!("Nothing is mounted: {reason}.")]);
        lines.push("Everything else works: headpond fs, headpond admin and the gRPC API.".to_owned());
    }
    lines.extend([String::new(), "Try in another terminal:".to_owned()]);
    if let Some(mount) = pond.mount() {
        lines.push(format!("  ls -l {}", shown(mount.mountpoint())));
    }
    let flag = if master == DEFAULT_MASTER { String::new() } else { format!(" --master {master}") };
    let program = program();
    lines.push(format!("  {program} fs ls -l /{flag}"));
    lines.push(format!("  {program} admin status{flag}"));
    let end = if pond.is_mounted() { "Ctrl-C unmounts and ends." } else { "Ctrl-C ends." };
    lines.extend([String::new(), end.to_owned()]);
    lines
}

/// How this program was called, so that what is printed works where `headpond` is not on the PATH.
fn program() -> String {
    std::env::args().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "headpond".to_owned())
}

/// A path as short as it is clear: relative to here if it lies below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) if below != Path::new("") => format!("./{}", below.display()),
        Ok(_) | Err(_) => path.display().to_string(),
    }
}
