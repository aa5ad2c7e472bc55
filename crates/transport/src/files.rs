//! The files of `[tls]`, read and checked.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use headpond_types::{Error, ErrorKind, Result};
use rustls::{
    CertificateError, ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject as _},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{Role, TlsConfig};

/// HTTP/2, as gRPC needs it (RFC 7301).
const ALPN: &[u8] = b"h2";

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// What tells one version of the files from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version([Option<(u64, i64, i64, u64)>; 3]);

/// What was made of the files.
pub(crate) struct Material {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) role: Role,
}

impl Files {
    /// Where `config` says that they are; `None` when it says nothing.
    ///
    /// # Errors
    /// `InvalidArgument` when it says half of it.
    pub(crate) fn of(config: &TlsConfig) -> Result<Option<Self>> {
        match (&config.ca, &config.cert, &config.key) {
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(Self { ca: ca.clone(), cert: cert.clone(), key: key.clone() }))
            }
            (None, None, None) if config.server_name.is_none() => Ok(None),
            (ca, cert, key) => {
                let missing = [("tls.ca", ca), ("tls.cert", cert), ("tls.key", key)];
                let missing = missing.into_iter().filter(|(_, path)| path.is_none()).map(|(name, _)| name);
                let missing = missing.collect::<Vec<_>>().join(" and ");
                Err(invalid(format!("{missing} is not set: tls.ca, tls.cert and tls.key go together")))
            }
        }
    }

    /// What they are now. Blocks on the file system.
    pub(crate) fn version(&self) -> Version {
        let version = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        };
        Version([version(&self.ca), version(&self.cert), version(&self.key)])
    }

    /// Reads and checks them. Blocks on the file system.
    ///
    /// # Errors
    /// `InvalidArgument` naming the file and what to do: it cannot be read, holds something else, the key is not that of the certificate, or
    /// the certificate is expired, not signed by the authority, or names no role.
    pub(crate) fn load(&self) -> Result<Material> {
        let provider = Arc::new(ring::default_provider());
        let roots = self.roots()?;
        let chain = certificates(&self.cert, "tls.cert")?;
        let key = self.key()?;
        let certified = self.certified(chain, key, &provider)?;
        let role = Role::of(&certified.cert[0])
            .map_err(|error| invalid(format!("{} cannot be used: {error}", self.cert.display())))?;

        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| {
            invalid(format!("tls.ca {} holds no usable authority", self.ca.display())).with_source(error)
        })?;
        self.check(&certified, &*verifier)?;

        let identity = Arc::new(SingleCertAndKey::from(certified));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unbuildable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would bring back a certificate that has expired, or an authority that was taken away.
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unbuildable)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity);
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Material { server: Arc::new(server), client: Arc::new(client), role })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, "tls.ca")? {
            roots.add(certificate).map_err(|error| {
                invalid(format!("tls.ca {} holds a certificate that cannot be read", self.ca.display()))
                    .with_source(error)
            })?;
        }
        Ok(roots)
    }

    /// What is wrong with the file is told without a byte of it.
    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            pem::Error::Io(error) => unreadable(&self.key, "tls.key", error),
            _ => invalid(format!(
                "tls.key {} holds no private key: give one in PEM that is not encrypted",
                self.key.display()
            )),
        })
    }

    fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey> {
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => invalid(format!(
                "tls.key {} is not the key of the certificate in tls.cert {}: give the pair that was made together",
                self.key.display(),
                self.cert.display()
            )),
            rustls::Error::InvalidCertificate(_) => {
                invalid(format!("tls.cert {} holds no certificate that can be read", self.cert.display()))
            }
            _ => invalid(format!(
                "tls.key {} holds no key that can be used: give one for ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
                self.key.display()
            )),
        })
    }

    /// Would others take our certificate?
    fn check(&self, certified: &CertifiedKey, verifier: &dyn ClientCertVerifier) -> Result<()> {
        let (own, between) =
            certified.cert.split_first().unwrap_or_else(|| unreachable!("certificates() gives one at least"));
        verifier.verify_client_cert(own, between, UnixTime::now()).map(drop).map_err(|error| {
            let rustls::Error::InvalidCertificate(reason) = error else {
                return invalid(format!("tls.cert {} cannot be used", self.cert.display())).with_source(error);
            };
            invalid(format!("tls.cert {} cannot be used: {}", self.cert.display(), why(&reason)))
        })
    }
}

/// What is wrong with a certificate, and what helps.
pub(crate) fn why(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired, renew it".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, check the clocks".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not signed by an authority in tls.ca".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is not for this host, add the host to its subject alternative names or set tls.server_name".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for this use, its extended key usage must hold clientAuth and, for servers, serverAuth"
                .to_owned()
        }
        other => format!("it is not valid ({other})"),
    }
}

/// All certificates in a file, of which there is at least one.
fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Err(pem::Error::Io(error)) => Err(unreadable(path, setting, error)),
        // Somebody may have put the key there.
        Ok(_) | Err(_) => Err(invalid(format!("{setting} {} holds no certificate: give one in PEM", path.display()))),
    }
}

fn unreadable(path: &Path, setting: &str, error: std::io::Error) -> Error {
    let message = format!("cannot read {setting} {}: name a file that this user may read", path.display());
    invalid(message).with_source(error)
}

fn unbuildable(error: rustls::Error) -> Error {
    Error::new(ErrorKind::Internal, "the TLS library lacks TLS 1.3").with_source(error)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("role", &self.role).finish_non_exhaustive()
    }
}
