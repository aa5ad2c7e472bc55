//! `headpond admin check`.

use clap::Args;
use headpond_client::{CheckSums, Finding, FindingKind};
use headpond_types::{ErrorKind, NsPath};
use serde::Serialize;

use crate::{
    exit_code,
    failure::{Failure, Result, remark},
    output::{PathJson, escape},
    session::Session,
};

/// Compare what the namespace knows with what stores and workers have, and say what differs.
///
/// Nothing is changed. What is being written, is to be persisted or follows a rename is counted and no finding, nor is what changes meanwhile. An
/// object that another program put, replaced or deleted since it was seen last is one, as nobody can tell it from a loss.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond admin check
  headpond admin check /data/table -o json

The exit code is 19 when something was found, and 10 when something could not be compared.")]
pub(super) struct CheckArgs {
    /// What lies at and below it is compared.
    #[arg(default_value = "/")]
    path: NsPath,
}

#[derive(Debug, Serialize)]
struct FindingJson<'a> {
    finding: &'static str,
    #[serde(flatten)]
    path: PathJson,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct SumsJson<'a> {
    files: u64,
    directories: u64,
    objects: u64,
    writing: u64,
    pending: u64,
    moving: u64,
    unlisted: u64,
    hidden: u64,
    uploads_under_way: u64,
    uploads_of_others: u64,
    findings: u64,
    unseen: &'a [String],
}

pub(super) async fn run(session: &mut Session, args: CheckArgs) -> Result<()> {
    let out = &mut session.out;
    let mut written = Ok(());
    let report = |findings: &[Finding], _: &CheckSums| {
        for finding in findings {
            let Finding { kind, path, detail } = finding;
            let line = if out.is_json() {
                out.json(&FindingJson { finding: name(*kind), path: PathJson::new(path), detail })
            } else {
                out.line(&format!("{}  {}: {detail}", name(*kind), escape(path)))
            };
            written = std::mem::replace(&mut written, Ok(())).and(line).and_then(|()| out.flush());
        }
    };
    let sums = session.client.admin().check(&args.path, report).await?;
    written?;
    if out.is_json() {
        out.json(&SumsJson::from(&sums))?;
    } else {
        tell(out, &sums)?;
    }
    out.flush()?;
    for unseen in &sums.unseen {
        remark(&format!("not compared: {unseen}"));
    }
    match (sums.findings, sums.unseen.len()) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::Reported(exit_code::of(ErrorKind::Unavailable))),
        (..) => Err(Failure::Reported(exit_code::FOUND)),
    }
}

fn tell(out: &mut crate::output::Output, sums: &CheckSums) -> Result<()> {
    out.line(&format!(
        "compared   {} files and {} directories with {} objects",
        sums.files, sums.directories, sums.objects
    ))?;
    for (count, what) in [
        (sums.writing, "are being written or renamed"),
        (sums.pending, "are to be persisted or deleted"),
        (sums.moving, "follow renames"),
        (sums.unlisted, "objects are in directories that nobody listed yet"),
        (sums.hidden, "objects are shown by no path"),
        (sums.uploads_under_way, "multipart uploads are under way"),
        (sums.uploads_of_others, "multipart uploads are not known to Headpond"),
    ] {
        if count > 0 {
            out.line(&format!("           {count} {what}"))?;
        }
    }
    out.line(&format!("findings   {}", sums.findings))
}

const fn name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::LostContent => "lost-content",
        FindingKind::MissingObject => "missing-object",
        FindingKind::OtherObject => "other-object",
        FindingKind::UnknownObject => "unknown-object",
        FindingKind::MissingMarker => "missing-marker",
        FindingKind::LeftMarker => "left-marker",
        FindingKind::LeftUpload => "left-upload",
        FindingKind::Other => "finding",
    }
}

impl<'a> From<&'a CheckSums> for SumsJson<'a> {
    fn from(sums: &'a CheckSums) -> Self {
        Self {
            files: sums.files,
            directories: sums.directories,
            objects: sums.objects,
            writing: sums.writing,
            pending: sums.pending,
            moving: sums.moving,
            unlisted: sums.unlisted,
            hidden: sums.hidden,
            uploads_under_way: sums.uploads_under_way,
            uploads_of_others: sums.uploads_of_others,
            findings: sums.findings,
            unseen: &sums.unseen,
        }
    }
}
