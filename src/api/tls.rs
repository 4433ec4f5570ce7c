//! TLS of the TCP address: what its files make of it, by ring, as for health checks.

use super::access::Subject;
use crate::config::{self, ApiTls};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// Bytes of a PEM file.
const LONGEST: u64 = 1 << 20;
/// A certificate that ends within so many days is doubted.
const SOON_DAYS: i64 = 14;

/// What is wrong, or doubtful, with the file of a key of `[api] tls`.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub key: &'static str,
    pub why: String,
    pub help: &'static str,
    /// This user may not read it: root may.
    pub is_denied: bool,
}

impl Wrong {
    fn new(key: &'static str, why: impl fmt::Display, help: &'static str) -> Wrong {
        Wrong {
            key,
            why: why.to_string(),
            help,
            is_denied: false,
        }
    }

    pub(super) fn unreadable(key: &'static str, why: &io::Error) -> Wrong {
        Wrong {
            is_denied: why.kind() == io::ErrorKind::PermissionDenied,
            ..Wrong::new(
                key,
                format_args!("cannot read: {why}"),
                "let weir read the file",
            )
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What TLS connections are taken with, and what is doubtful about it.
///
/// # Errors
/// The first file of each kind that cannot be used.
pub(crate) fn server(files: &ApiTls) -> Result<(ServerConfig, Vec<Wrong>), Vec<Wrong>> {
    let mut doubts = Vec::new();
    let mut wrongs = Vec::new();
    let chain = certificates("certificate", &files.certificate).map_err(|why| wrongs.push(why));
    let key = private_key(&files.key, &mut doubts).map_err(|why| wrongs.push(why));
    let ca = files.client_ca.as_deref();
    let clients = ca.map(|ca| roots(ca).map_err(|why| wrongs.push(why)));
    let (Ok(chain), Ok(key), Ok(clients)) = (chain, key, clients.transpose()) else {
        return Err(wrongs);
    };
    doubts.extend(chain.first().and_then(validity));
    let versions = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| {
            vec![Wrong::new(
                "certificate",
                why,
                "report this: ring has both versions",
            )]
        })?;
    let authenticated = match clients {
        None => versions.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
            let verifier = verifier.build().map_err(|why| {
                let help = "name a file of certificates that sign clients' certificates";
                vec![Wrong::new("client_ca", why, help)]
            })?;
            versions.with_client_cert_verifier(verifier)
        }
    };
    let mut config = authenticated
        .with_single_cert(chain, key)
        .map_err(|why| vec![unfit(&why)])?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, doubts))
}

/// Characters of a subject in a line of the log.
const MOST_SUBJECT: usize = 200;

/// Whom a client's certificate is for, in a line's worth of printable characters.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject().to_string();
    let subject: String = subject.escape_debug().take(MOST_SUBJECT).collect();
    Some(Subject(subject.into()))
}

/// Why a certificate and a key make no pair.
fn unfit(why: &rustls::Error) -> Wrong {
    match why {
        rustls::Error::InconsistentKeys(_) => Wrong::new(
            "key",
            "it is not the key of the certificate",
            "name the key that the certificate was made for",
        ),
        rustls::Error::InvalidCertificate(why) => Wrong::new(
            "certificate",
            format_args!("its first certificate cannot be used: {why:?}"),
            "name a PEM file that begins with the server's own X.509 certificate",
        ),
        other => Wrong::new(
            "key",
            other,
            "name a key that ring knows: RSA, ECDSA (P-256, P-384) or Ed25519",
        ),
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let (pem, _) = config::read_file(path, LONGEST).map_err(|why| Wrong::unreadable(key, &why))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let help = "write a PEM file of certificates (-----BEGIN CERTIFICATE-----)";
    let found = found.map_err(|why| Wrong::new(key, why, help))?;
    match found.is_empty() {
        true => Err(Wrong::new(key, "there is no certificate in it", help)),
        false => Ok(found),
    }
}

fn private_key(path: &Path, doubts: &mut Vec<Wrong>) -> Result<PrivateKeyDer<'static>, Wrong> {
    let (pem, about) =
        config::read_file(path, LONGEST).map_err(|why| Wrong::unreadable("key", &why))?;
    let help = "write a PEM file with one private key that no password protects (-----BEGIN PRIVATE KEY-----)";
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        doubts.push(Wrong::new(
            "key",
            format_args!("every user of this machine may open it (mode {mode:04o})"),
            "chmod 0640 it",
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|why| match why {
        rustls::pki_types::pem::Error::NoItemsFound => {
            Wrong::new("key", "there is no private key in it", help)
        }
        // Of a key no byte is repeated.
        _ => Wrong::new("key", "it is no private key in PEM", help),
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots.add(certificate).map_err(|why| {
            let help = "name a file of certificates that sign clients' certificates";
            Wrong::new("client_ca", why, help)
        })?;
    }
    Ok(roots)
}

/// What is doubtful about the time that a certificate is valid for.
fn validity(certificate: &CertificateDer) -> Option<Wrong> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let (validity, now) = (read.validity(), ASN1Time::now());
    let help = "renew the certificate, and reload weir";
    if now < validity.not_before {
        let why = format!("the certificate is valid from {} on", validity.not_before);
        return Some(Wrong::new(
            "certificate",
            why,
            "does this machine's clock go right?",
        ));
    }
    let left = validity.not_after.timestamp() - now.timestamp();
    if left < 0 {
        let why = format!("the certificate has expired: {}", validity.not_after);
        return Some(Wrong::new("certificate", why, help));
    }
    (left < SOON_DAYS * 86_400).then(|| {
        let why = format!("the certificate expires soon: {}", validity.not_after);
        Wrong::new("certificate", why, help)
    })
}

/// What a client is: whom it trusts, and its own certificate.
///
/// # Errors
/// The option whose file cannot be used, and why.
pub(crate) fn client(
    ca: Option<&Path>,
    own: Option<(&Path, &Path)>,
) -> Result<rustls::ClientConfig, String> {
    let said = |path: &Path, wrong: Wrong| format!("{}: {}", path.display(), wrong.why);
    let trusted = match ca {
        Some(ca) => roots(ca).map_err(|wrong| said(ca, wrong))?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if trusted.is_empty() {
        return Err(
            "this machine has no certificates that it trusts: name the daemon's by --ca".to_owned(),
        );
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(trusted);
    let Some((certificate, key)) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("certificate", certificate).map_err(|it| said(certificate, it))?;
    let secret = private_key(key, &mut Vec::new()).map_err(|it| said(key, it))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|why| said(key, unfit(&why)))
}
