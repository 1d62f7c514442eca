//! How is TLS spoken, and how does it get a new certificate while connections go on?

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why the files are no good.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("api.tls_cert names {path}, which can't be used: {cause}")]
    Cert { path: PathBuf, cause: pem::Error },
    #[error("api.tls_cert names {0}, which holds no certificate in PEM form")]
    NoCert(PathBuf),
    #[error("api.tls_key names {path}, which can't be used: {cause}")]
    Key { path: PathBuf, cause: pem::Error },
    #[error("api.tls_cert and api.tls_key can't be used together: {0}")]
    Pair(rustls::Error),
}

/// The certificate in force and where it came from. A handshake takes the one that is in force when it begins.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// # Errors
    /// [`TlsError`]
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let current = RwLock::new(read(&files)?);
        Ok(Tls { files, current })
    }

    /// Reads the files again, for connections that come from now on.
    ///
    /// # Errors
    /// [`TlsError`]; what was in force stays so.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
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
    fn files_that_are_no_good_are_told_so_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        for (pair, expected) in [
            (("", ONE.1), "which holds no certificate in PEM form"),
            ((ONE.1, ONE.1), "which holds no certificate in PEM form"),
            ((ONE.0, ""), "api.tls_key names "),
            ((ONE.0, ONE.0), "api.tls_key names "),
            ((ONE.0, TWO.1), "api.tls_cert and api.tls_key can't be used together: "),
        ] {
            let error = Tls::load(files(folder.path(), pair)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let nowhere = TlsFiles { cert: folder.path().join("none"), key: folder.path().join("none") };
        let error = Tls::load(nowhere).err().unwrap().to_string();
        assert!(error.starts_with("api.tls_cert names ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_wrong_new_file_leaves_the_old_one_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::load(files(folder.path(), ONE)).unwrap();
        let first = tls.current.read().unwrap().clone();
        files(folder.path(), (TWO.0, ONE.1));
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&first, &tls.current.read().unwrap()));
        files(folder.path(), TWO);
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.current.read().unwrap()));
    }
}
