//! TLS of checks: by ring, with what this machine trusts.

use super::Stage;
use super::words::{Failure, failed, not_made};
use crate::config::TlsProbe;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What TLS connections are made with.
pub(super) struct Tls {
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
    /// Certificates that this machine trusts.
    roots: usize,
}

impl Tls {
    /// Reads what this machine trusts.
    pub(super) fn new() -> Result<Tls, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Tls::with(roots)
    }

    pub(super) fn with(roots: RootCertStore) -> Result<Tls, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let count = roots.len();
        let with_versions = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
        };
        let mut verifying = with_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut trusting = with_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider.clone())))
            .with_no_client_auth();
        // A resumed session would show no certificate.
        verifying.resumption = Resumption::disabled();
        trusting.resumption = Resumption::disabled();
        Ok(Tls {
            verifying: Arc::new(verifying),
            trusting: Arc::new(trusting),
            roots: count,
        })
    }

    /// Makes a connection one of TLS; `protocols` are those of ALPN, the preferred one first.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        to: SocketAddr,
        probe: &TlsProbe,
        protocols: &[&[u8]],
        stage: &Stage,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        if probe.verify && self.roots == 0 {
            return not_made(
                "this machine has no certificates that it trusts: install them (the package ca-certificates), or write \
                 `verify = false`",
            );
        }
        let config = match probe.verify {
            true => &self.verifying,
            false => &self.trusting,
        };
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        let name = match &probe.sni {
            Some(name) => ServerName::try_from(name.clone()),
            None => Ok(to.ip().into()),
        };
        let Ok(name) = name else {
            return not_made("the name of the server is none");
        };
        stage.set("TLS handshake");
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match connected.await {
            Ok(stream) => Ok(stream),
            Err(error) => {
                let of_tls = error
                    .get_ref()
                    .and_then(|it| it.downcast_ref::<rustls::Error>());
                match of_tls {
                    Some(why) => failed(format!("TLS handshake: {why}")),
                    None => Err(Failure::at("TLS handshake", &error)),
                }
            }
        }
    }
}

/// Takes any certificate: for checks with `verify = false`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
