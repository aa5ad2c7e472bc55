//! Certificates for tests.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair, SanType, date_time_ymd,
};

/// A certificate authority of its own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of one certificate, as `[tls]` names them.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The cryptography fails.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("headpond test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Makes a certificate for this machine with the URIs `uris` and writes it to `folder`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn issue(&self, folder: &Path, name: &str, uris: &[&str]) -> Result<Issued> {
        self.issue_for(folder, name, uris, &["localhost", "127.0.0.1"], false)
    }

    /// Makes one for the hosts `hosts`, that has expired or not.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn issue_for(&self, folder: &Path, name: &str, uris: &[&str], hosts: &[&str], expired: bool) -> Result<Issued> {
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = named(name);
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
        }
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = |what: &str| folder.join(format!("{name}.{what}.pem"));
        let issued = Issued { ca: path("ca"), cert: path("cert"), key: path("key") };
        std::fs::write(&issued.ca, self.issuer.pem())?;
        std::fs::write(&issued.cert, certificate.pem())?;
        std::fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}

impl Issued {
    /// The environment that has a process use it.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [("HEADPOND_TLS__CA", &self.ca), ("HEADPOND_TLS__CERT", &self.cert), ("HEADPOND_TLS__KEY", &self.key)]
            .map(|(name, path)| (name, path.display().to_string()))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(rcgen::DnType::CommonName, name);
    distinguished
}
