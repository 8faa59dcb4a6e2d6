//! Certificates from files, read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::error::io_reason;
use crate::{Error, Result};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate with its key. Connections that begin after the files have changed get the new one; those before go on.
#[derive(Clone)]
pub struct Tls {
    certificates: Arc<Certificates>,
    acceptor: TlsAcceptor,
}

struct Certificates {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

struct Current {
    certified: Arc<CertifiedKey>,
    texts: Texts,
}

/// What the files held when they were read.
#[derive(PartialEq, Eq)]
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// The certificate chain and the private key of files in PEM form.
    ///
    /// # Errors
    /// [`Error::Tls`]: a file cannot be read, holds something else, or the key is not the certificate's.
    pub fn open(cert: &Path, key: &Path) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let texts = read(cert, key)?;
        let certified = Arc::new(certify(cert, key, &texts, &provider)?);
        let certificates = Arc::new(Certificates {
            cert: cert.to_owned(),
            key: key.to_owned(),
            provider: Arc::clone(&provider),
            current: RwLock::new(Current { certified, texts }),
        });
        let failed = |error: rustls::Error| Error::Tls { path: cert.to_owned(), reason: error.to_string() };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificates) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { certificates, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files again; true if they have changed. What cannot be used leaves all as it was.
    ///
    /// # Errors
    /// As [`Tls::open`].
    pub fn reload(&self) -> Result<bool> {
        let Certificates { cert, key, provider, current } = &*self.certificates;
        let texts = read(cert, key)?;
        if current.read().unwrap_or_else(PoisonError::into_inner).texts == texts {
            return Ok(false);
        }
        let certified = Arc::new(certify(cert, key, &texts, provider)?);
        *current.write().unwrap_or_else(PoisonError::into_inner) = Current { certified, texts };
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads the files again and again. Both are seldom replaced at the same moment: until they fit, the old ones count.
    pub(super) async fn watch(self) {
        let mut complained = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let again = self.clone();
            match tokio::task::spawn_blocking(move || again.reload()).await {
                Ok(Ok(changed)) => {
                    complained = None;
                    if changed {
                        info!(cert = %self.certificates.cert.display(), "a new certificate is used");
                    }
                }
                Ok(Err(error)) => {
                    let words = error.to_string();
                    if complained.as_ref() != Some(&words) {
                        warn!(%error, "the certificate that was read before is used");
                    }
                    complained = Some(words);
                }
                Err(error) => warn!(%error, "the certificate cannot be read again"),
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.certificates.fmt(f)
    }
}

fn read(cert: &Path, key: &Path) -> Result<Texts> {
    let text = |path: &Path| {
        std::fs::read(path).map_err(|error| Error::Tls { path: path.to_owned(), reason: io_reason(&error) })
    };
    Ok(Texts { cert: text(cert)?, key: text(key)? })
}

fn certify(cert: &Path, key: &Path, texts: &Texts, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let failed = |path: &Path, reason: String| Error::Tls { path: path.to_owned(), reason };
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&texts.cert).collect();
    let chain = chain.map_err(|error| failed(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed(cert, "it holds no certificate in PEM form".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&texts.key)
        .map_err(|_| failed(key, "it holds no private key in PEM form".to_owned()))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| failed(key, error.to_string()))
}
