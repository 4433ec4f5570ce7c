//! The ends of tests/lab/quic.sh: a QUIC server that writes its server id into its connection ids
//! (draft-ietf-quic-load-balancers-21 section 5), and a client that changes its address and port in the middle of a stream.
//!
//!     quic server PORT SERVER_ID NONCE_BYTES [KEY]     SERVER_ID and KEY in hex digits
//!     quic client VIP:PORT MOVES ADDRESS…
//!
//! The server answers each line of a stream with its server id. The client sends a line, moves to the next of its addresses,
//! sends the next line, and prints how many lines each server has answered; it fails if one of them stays unanswered.

// The lab reads what it prints.
#![allow(clippy::print_stdout)]

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig};
use quinn::{Incoming, ServerConfig, TokioRuntime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A line that is on its way for so long is lost with its connection: QUIC sends it again some ten times in it.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Clone)]
struct ServerIds {
    server: Vec<u8>,
    nonce: usize,
    key: Option<[u8; 16]>,
}

impl ConnectionIdGenerator for ServerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = vec![0; self.nonce];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())
            .expect("the kernel has random bytes");
        let mut id = [&self.server[..], &nonce].concat();
        if let Some(key) = self.key {
            let block: &mut [u8; 16] = id.as_mut_slice().try_into().expect("a block of AES");
            Aes128::new(&key.into()).encrypt_block(block.into());
        }
        // Configuration 0, and the length of what follows (section 3.2).
        id.insert(0, id.len() as u8);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        1 + self.server.len() + self.nonce
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn bytes(hex: &str) -> Outcome<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(std::str::from_utf8);
    pairs
        .map(|pair| Ok(u8::from_str_radix(pair?, 16)?))
        .collect()
}

async fn serve(port: u16, ids: ServerIds) -> Outcome {
    let name = ids.server.iter().map(|byte| format!("{byte:02x}"));
    let name: Arc<str> = name.collect::<String>().into();
    let made = rcgen::generate_simple_self_signed(["weir.test".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let config = ServerConfig::with_single_cert(vec![made.cert.into()], key)?;
    let mut endpoint = EndpointConfig::default();
    endpoint.cid_generator(move || Box::new(ids.clone()));
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    let endpoint = Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))?;
    while let Some(incoming) = endpoint.accept().await {
        let name = name.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(incoming, &name).await {
                println!("{name}: {error}");
            }
        });
    }
    Ok(())
}

async fn answer(incoming: Incoming, name: &str) -> Outcome {
    let (mut send, receive) = incoming.await?.accept_bi().await?;
    let mut lines = BufReader::new(receive).lines();
    while lines.next_line().await?.is_some() {
        send.write_all(format!("{name}\n").as_bytes()).await?;
    }
    send.finish()?;
    send.stopped().await?;
    Ok(())
}

/// Takes any certificate: who answers is what the lab asks.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn ask(server: SocketAddr, moves: usize, addresses: &[IpAddr]) -> Outcome {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_no_client_auth();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut ways = addresses.iter().cycle();
    let mut next = || UdpSocket::bind((*ways.next().expect("an address"), 0));
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        None,
        next()?,
        Arc::new(TokioRuntime),
    )?;
    let connecting = endpoint.connect_with(config, server, "weir.test")?;
    let connection = tokio::time::timeout(PATIENCE, connecting).await??;
    let (mut send, receive) = connection.open_bi().await?;
    let mut lines = BufReader::new(receive).lines();
    let mut answers = BTreeMap::<String, usize>::new();
    for line in 0..=moves {
        if line > 0 {
            endpoint.rebind(next()?)?;
        }
        send.write_all(b"who\n").await?;
        match tokio::time::timeout(PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(name))) => *answers.entry(name).or_default() += 1,
            outcome => return Err(format!("after {line} moves: {outcome:?}").into()),
        }
    }
    send.shutdown().await?;
    for (name, lines) in answers {
        println!("{name} {lines}");
    }
    connection.close(0u8.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments[..] {
        ["server", port, server, nonce, ref key @ ..] => {
            let key = match key {
                [key] => Some(bytes(key)?.try_into().map_err(|_| "a key has 16 bytes")?),
                _ => None,
            };
            let ids = ServerIds {
                server: bytes(server)?,
                nonce: nonce.parse()?,
                key,
            };
            runtime.block_on(serve(port.parse()?, ids))
        }
        ["client", server, moves, ref addresses @ ..] => {
            let addresses = addresses.iter().map(|address| address.parse());
            let addresses: Vec<IpAddr> = addresses.collect::<Result<_, _>>()?;
            runtime.block_on(ask(server.parse()?, moves.parse()?, &addresses))
        }
        _ => Err(
            "quic server PORT SERVER_ID NONCE_BYTES [KEY] | quic client VIP:PORT MOVES ADDRESS…"
                .into(),
        ),
    }
}
