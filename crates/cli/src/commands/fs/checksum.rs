//! `headpond fs checksum`.

use clap::{Args, ValueEnum};
use headpond_types::NsPath;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    progress,
    reading::{open, stream},
};
use crate::{
    failure::Result,
    output::{PathJson, escape},
    session::Session,
};

/// Compute checksums of files.
///
/// Text is printed as sha256sum prints it: the checksum, two blanks, the path.
#[derive(Debug, Args)]
pub(super) struct ChecksumArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Which checksum.
    #[arg(short, long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    /// SHA-256.
    Sha256,
    /// CRC-32C (Castagnoli), in hexadecimal.
    Crc32c,
}

/// A checksum that is being computed.
enum Running {
    Sha256(Sha256),
    Crc32c(u32),
}

#[derive(Debug, Serialize)]
struct ChecksumJson {
    #[serde(flatten)]
    path: PathJson,
    algorithm: Algorithm,
    checksum: String,
    bytes: u64,
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Crc32c => Self::Crc32c(0),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hash) => hex::encode(hash.finalize()),
            Self::Crc32c(sum) => format!("{sum:08x}"),
        }
    }
}

pub(super) async fn run(session: &mut Session, args: &ChecksumArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let file = open(session, path).await?;
        let bar = progress::bytes(file.length()).with_message(escape(&path.to_bytes()));
        let mut running = Running::new(args.algorithm);
        stream(&file, 0..file.length(), |chunk| {
            running.update(chunk);
            bar.inc(chunk.len() as u64);
            Ok(true)
        })
        .await?;
        bar.finish_and_clear();
        let (algorithm, checksum) = (args.algorithm, running.finish());
        if session.out.is_json() {
            let bytes = file.length();
            session.out.json(&ChecksumJson { path: path.into(), algorithm, checksum, bytes })?;
        } else {
            session.out.line(&format!("{checksum}  {}", escape(&path.to_bytes())))?;
        }
        session.out.flush()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        for (algorithm, checksum) in [
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
            (Algorithm::Crc32c, "e3069283"),
        ] {
            let mut running = Running::new(algorithm);
            running.update(b"1234");
            running.update(b"56789");
            assert_eq!(running.finish(), checksum);
        }
    }
}
