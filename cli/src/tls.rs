//! Certificates of the client port: the operator's, or a self-signed pair kept in the data directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Below the data directory.
const SELF_SIGNED_CERT: &str = "tls/self-signed.crt";
const SELF_SIGNED_KEY: &str = "tls/self-signed.key";
/// Names a self-signed certificate is good for, besides the advertised host.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why TLS cannot be offered.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("{path} cannot be read as PEM: {source}")]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("the certificate and the key do not fit: {0}")]
    Pair(#[from] rustls::Error),
    #[error("a self-signed certificate cannot be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
    #[error("{path} cannot be written: {source}")]
    Keep { path: PathBuf, source: io::Error },
}

/// Prepares TLS with the configured pair, or with a self-signed one that is made at the first start.
///
/// `host` is a name that clients are told, if any.
pub(crate) fn acceptor(tls: &Tls, data_dir: &Path, host: Option<&str>) -> Result<TlsAcceptor, Error> {
    let (cert, key) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => self_signed(data_dir, host)?,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates(&cert)?, private_key(&key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = |source| Error::Pem { path: path.to_owned(), source };
    let chain = CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| Error::Pem { path: path.to_owned(), source })
}

/// The pair in the data directory, made when one half is missing.
fn self_signed(data_dir: &Path, host: Option<&str>) -> Result<(PathBuf, PathBuf), Error> {
    let (cert_path, key_path) = (data_dir.join(SELF_SIGNED_CERT), data_dir.join(SELF_SIGNED_KEY));
    if cert_path.is_file() && key_path.is_file() {
        return Ok((cert_path, key_path));
    }
    let names: Vec<_> = LOCAL_NAMES.into_iter().chain(host).map(str::to_owned).collect();
    let pair = rcgen::generate_simple_self_signed(names)?;
    if let Some(folder) = cert_path.parent() {
        fs::create_dir_all(folder).map_err(|source| Error::Keep { path: folder.to_owned(), source })?;
    }
    keep(&key_path, &pair.signing_key.serialize_pem())?;
    keep(&cert_path, &pair.cert.pem())?;
    Ok((cert_path, key_path))
}

/// Writes a file that only its owner may read.
fn keep(path: &Path, text: &str) -> Result<(), Error> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::Keep { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_pair_is_made_once() {
        let data = tempfile::tempdir().expect("a directory");
        acceptor(&Tls::default(), data.path(), Some("broker.example")).expect("made");
        let first = fs::read(data.path().join(SELF_SIGNED_CERT)).expect("kept");
        acceptor(&Tls::default(), data.path(), None).expect("read");
        assert_eq!(fs::read(data.path().join(SELF_SIGNED_CERT)).expect("kept"), first);
    }

    #[test]
    fn a_wrong_pair_is_refused() {
        let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for data in [&one, &other] {
            acceptor(&Tls::default(), data.path(), None).expect("made");
        }
        let cert = Some(one.path().join(SELF_SIGNED_CERT));
        let mixed = Tls { cert: cert.clone(), key: Some(other.path().join(SELF_SIGNED_KEY)), ..Tls::default() };
        assert!(matches!(acceptor(&mixed, one.path(), None), Err(Error::Pair(_))));
        let no_key = Tls { cert: cert.clone(), key: cert, ..Tls::default() };
        assert!(matches!(acceptor(&no_key, one.path(), None), Err(Error::Pem { .. })));
    }
}
