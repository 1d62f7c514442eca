//! TLS: loads certificate and key, and replaces them while connections stay open.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why the certificate or the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file can't be read.
    #[error("api.tls_cert: {path} can't be read: {cause}")]
    Cert {
        /// Path of the certificate file.
        path: PathBuf,
        /// The error of the file or its format.
        cause: pem::Error,
    },
    /// The certificate file is empty.
    #[error("api.tls_cert: {0} has no certificate in PEM format")]
    NoCert(PathBuf),
    /// The key file can't be read.
    #[error("api.tls_key: {path} can't be read: {cause}")]
    Key {
        /// Path of the key file.
        path: PathBuf,
        /// The error of the file or its format.
        cause: pem::Error,
    },
    /// Certificate and key do not match.
    #[error("api.tls_cert and api.tls_key can't be used together: {0}")]
    Pair(rustls::Error),
}

/// The current certificate and its files. A handshake uses the certificate that is current when it begins.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let current = RwLock::new(read(&files)?);
        Ok(Tls { files, current })
    }

    /// Reads the files again, for new connections.
    ///
    /// # Errors
    /// [`TlsError`]; the current certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.files)?;
        *self.current.write() = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().clone().into()
    }
}

fn read(TlsFiles { cert, key }: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let of_cert = |cause| TlsError::Cert { path: cert.clone(), cause };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(of_cert);
    let chain: Vec<CertificateDer<'static>> = chain?;
    if chain.is_empty() {
        return Err(TlsError::NoCert(cert.clone()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::Key { path: key.clone(), cause })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, private))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const ONE: (&str, &str) = (include_str!("../../tests/tls/one.pem"), include_str!("../../tests/tls/one.key"));
    const TWO: (&str, &str) = (include_str!("../../tests/tls/two.pem"), include_str!("../../tests/tls/two.key"));

    fn files(folder: &Path, (cert, key): (&str, &str)) -> TlsFiles {
        let files = TlsFiles { cert: folder.join("cert"), key: folder.join("key") };
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    #[test]
    fn an_error_names_the_key_of_the_wrong_file() {
        let folder = tempfile::tempdir().unwrap();
        for (pair, expected) in [
            (("", ONE.1), "has no certificate in PEM format"),
            ((ONE.1, ONE.1), "has no certificate in PEM format"),
            ((ONE.0, ""), "api.tls_key: "),
            ((ONE.0, ONE.0), "api.tls_key: "),
            ((ONE.0, TWO.1), "api.tls_cert and api.tls_key can't be used together: "),
        ] {
            let error = Tls::load(files(folder.path(), pair)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let nowhere = TlsFiles { cert: folder.path().join("none"), key: folder.path().join("none") };
        let error = Tls::load(nowhere).err().unwrap().to_string();
        assert!(error.starts_with("api.tls_cert: ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_failed_reload_keeps_the_current_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::load(files(folder.path(), ONE)).unwrap();
        let first = tls.current.read().clone();
        files(folder.path(), (TWO.0, ONE.1));
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&first, &tls.current.read()));
        files(folder.path(), TWO);
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.current.read()));
    }
}
