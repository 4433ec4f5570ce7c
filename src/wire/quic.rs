//! The destination connection id of a QUIC packet (RFC 8999), and the server id that it has by the QUIC-LB draft
//! (draft-ietf-quic-load-balancers-21), in plain or encrypted.

use crate::net::ServerId;
use aes::Aes128;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};

/// RFC 9000 section 17.2: the longest connection id of version 1.
pub const LONGEST_ID: usize = 20;
/// The draft's section 5.2: the shortest nonce, in bytes.
pub const LEAST_NONCE: usize = 4;
/// Of AES, in bytes.
const BLOCK: usize = 16;

/// Versions whose long headers are known: RFC 9000 and RFC 9369, and the number of their Handshake packets (sections 17.2.4
/// and 3.2).
const HANDSHAKE: [(u32, u8); 2] = [(1, 2), (0x6b33_43cf, 3)];

/// The destination connection id of a datagram's first packet, of `length` bytes, if a server has made it: it is in all packets with
/// a short header, and in Handshake packets. That of an Initial or 0-RTT packet may be one that a client has drawn, and of another
/// version nothing is known.
pub fn server_made_id(datagram: &[u8], length: usize) -> Option<&[u8]> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return rest.get(..length);
    }
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*version);
    let (_, handshake) = HANDSHAKE.iter().find(|(known, _)| *known == version)?;
    let (id_length, rest) = rest.split_first()?;
    let is_server_made = first >> 4 & 3 == *handshake && usize::from(*id_length) == length;
    rest.get(..length).filter(|_| is_server_made)
}

/// Reads server ids.
pub struct Decoder {
    /// The three highest bits of the first byte.
    config_id: u8,
    server_id: usize,
    nonce: usize,
    cipher: Option<Aes128>,
}

impl std::fmt::Debug for Decoder {
    /// Without its key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("config_id", &self.config_id)
            .field("server_id", &self.server_id)
            .field("nonce", &self.nonce)
            .field("is_encrypted", &self.cipher.is_some())
            .finish()
    }
}

impl Decoder {
    /// None unless the lengths, in bytes, are those that the draft allows: server id and nonce together fill a connection id of
    /// `id` bytes but for its first one.
    pub fn new(
        config_id: u8,
        server_id: usize,
        id: usize,
        key: Option<&[u8; BLOCK]>,
    ) -> Option<Self> {
        let nonce = id.checked_sub(1 + server_id)?;
        let is_right = config_id < 7
            && (1..=ServerId::LONGEST).contains(&server_id)
            && nonce >= LEAST_NONCE
            && id <= LONGEST_ID;
        is_right.then(|| Decoder {
            config_id,
            server_id,
            nonce,
            cipher: key.map(|key| Aes128::new(key.into())),
        })
    }

    /// Bytes of a connection id.
    pub fn id_length(&self) -> usize {
        1 + self.server_id + self.nonce
    }

    /// The server id in a connection id; none if that is of another configuration.
    pub fn server_id(&self, id: &[u8]) -> Option<ServerId> {
        let (first, body) = id.split_first()?;
        let length = self.server_id + self.nonce;
        if first >> 5 != self.config_id || body.len() != length {
            return None;
        }
        let mut plain = [0; LONGEST_ID];
        let plain = plain.get_mut(..length)?;
        plain.copy_from_slice(body);
        if let Some(cipher) = &self.cipher {
            match <&mut [u8; BLOCK]>::try_from(&mut *plain) {
                Ok(block) => cipher.decrypt_block(block.into()),
                Err(_) => decrypt(cipher, plain),
            }
        }
        ServerId::new(plain.get(..self.server_id)?)
    }
}

/// Bytes of a half: the longest.
const HALF: usize = LONGEST_ID.div_ceil(2);

/// The halves of a connection id without its first byte: of an odd number of bytes, each has four bits of the middle one.
struct Halves {
    left: [u8; HALF],
    right: [u8; HALF],
    length: usize,
}

impl Halves {
    fn of(bytes: &[u8]) -> Self {
        let mut halves = Halves {
            left: [0; HALF],
            right: [0; HALF],
            length: bytes.len(),
        };
        let half = halves.half();
        halves.left[..half].copy_from_slice(&bytes[..half]);
        halves.right[..half].copy_from_slice(&bytes[bytes.len() - half..]);
        halves.clear();
        halves
    }

    fn half(&self) -> usize {
        self.length.div_ceil(2)
    }

    /// Takes from each half what of the middle byte is the other's.
    fn clear(&mut self) {
        if self.length % 2 == 1 {
            self.left[self.half() - 1] &= 0xf0;
            self.right[0] &= 0x0f;
        }
    }

    /// One pass of the draft's section 5.4.2: XORs one half with the encryption of the other.
    fn pass(&mut self, cipher: &Aes128, number: u8) {
        let half = self.half();
        let (from, to) = match number % 2 {
            0 => (&self.right, &mut self.left),
            _ => (&self.left, &mut self.right),
        };
        let mut block = [0; BLOCK];
        block[..half].copy_from_slice(&from[..half]);
        (block[BLOCK - 2], block[BLOCK - 1]) = (self.length as u8, number);
        cipher.encrypt_block((&mut block).into());
        to[..half]
            .iter_mut()
            .zip(block)
            .for_each(|(to, by)| *to ^= by);
        self.clear();
    }

    fn write(&self, bytes: &mut [u8]) {
        let half = self.half();
        bytes.fill(0);
        bytes[..half].copy_from_slice(&self.left[..half]);
        let at = self.length - half;
        bytes[at..]
            .iter_mut()
            .zip(self.right)
            .for_each(|(to, from)| *to |= from);
    }
}

/// Undoes the four passes, the last one first.
fn decrypt(cipher: &Aes128, bytes: &mut [u8]) {
    let mut halves = Halves::of(bytes);
    (1..=4).rev().for_each(|number| halves.pass(cipher, number));
    halves.write(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    /// As a server makes a connection id: the draft's section 5.4, of which `decrypt` is the way back.
    fn encode(config_id: u8, server_id: &[u8], nonce: &[u8], key: Option<&[u8; 16]>) -> Vec<u8> {
        let mut body = [server_id, nonce].concat();
        if let Some(key) = key {
            let cipher = Aes128::new(key.into());
            match <&mut [u8; 16]>::try_from(&mut body[..]) {
                Ok(block) => cipher.encrypt_block(block.into()),
                Err(_) => {
                    let mut halves = Halves::of(&body);
                    (1..=4).for_each(|number| halves.pass(&cipher, number));
                    halves.write(&mut body);
                }
            }
        }
        let first = config_id << 5 | body.len() as u8;
        [&[first], &body[..]].concat()
    }

    /// FIPS 197 appendix B.
    #[test]
    fn the_cipher_is_aes() {
        let key: [u8; 16] = bytes("2b7e151628aed2a6abf7158809cf4f3c")
            .try_into()
            .unwrap();
        let mut block: [u8; 16] = bytes("3243f6a8885a308d313198a2e0370734")
            .try_into()
            .unwrap();
        Aes128::new(&key.into()).encrypt_block((&mut block).into());
        assert_eq!(block[..], bytes("3925841d02dc09fbdc118597196a0b32"));
    }

    /// The draft's appendix "Load Balancer Test Vectors", and the example of its section 5.4.2: configuration, server id, nonce,
    /// connection id, key. One of the appendix lacks a digit, and the last one has the first byte of configuration 0.
    #[test]
    fn connection_ids_of_the_draft_are_read() {
        const KEY: &str = "8f95f09245765f80256934e50c66207f";
        for (config_id, server_id, nonce, id, key) in [
            (0, "c4605e", "4504cc4f", "07c4605e4504cc4f", ""),
            (0, "ed793a", "ee080dbf", "0720b1d07b359d3c", KEY),
            (
                1,
                "ed793a51d49b8f5fab65",
                "ee080dbf48",
                "2fcc381bc74cb4fbad2823a3d1f8fed2",
                KEY,
            ),
            (
                2,
                "ed793a51d49b8f5f",
                "ee080dbf48c0d1e5",
                "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
                KEY,
            ),
            (
                0,
                "ed793a51d49b8f5fab",
                "ee080dbf48c0d1e55d",
                "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
                KEY,
            ),
            (
                0,
                "31441a",
                "9c69c275",
                "0767947d29be054a",
                "fdf726a9893ec05c0632d3956680baf0",
            ),
        ] {
            let key: Option<[u8; 16]> = bytes(key).try_into().ok();
            let (server, nonce, id) = (bytes(server_id), bytes(nonce), bytes(id));
            let decoder = Decoder::new(config_id, server.len(), id.len(), key.as_ref()).unwrap();
            let found = decoder.server_id(&id).unwrap();
            assert_eq!(found.to_string(), server_id);
            assert_eq!(
                encode(config_id, &server, &nonce, key.as_ref())[1..],
                id[1..]
            );
        }
    }

    proptest! {
        #[test]
        fn what_a_server_writes_is_read_whatever_the_lengths(
            server_id in prop::collection::vec(any::<u8>(), 1..=15),
            nonce in prop::collection::vec(any::<u8>(), 4..=18),
            config_id in 0u8..7,
            key: Option<[u8; 16]>,
        ) {
            let length = 1 + server_id.len() + nonce.len();
            let decoder = Decoder::new(config_id, server_id.len(), length, key.as_ref());
            prop_assert_eq!(decoder.is_some(), length <= LONGEST_ID);
            prop_assume!(length <= LONGEST_ID);
            let decoder = decoder.unwrap();
            let id = encode(config_id, &server_id, &nonce, key.as_ref());
            let found = decoder.server_id(&id).unwrap();
            prop_assert_eq!(found.as_bytes(), &server_id[..]);
            prop_assert_eq!(decoder.id_length(), length);
            let mut other = id.clone();
            other[0] ^= 0x20;
            prop_assert_eq!(decoder.server_id(&other), None);
            let short = [&[0x40][..], &id, b"rest"].concat();
            prop_assert_eq!(server_made_id(&short, length), Some(&id[..]));
            for (kind, version, is_read) in [(0u8, 1u32, false), (1, 1, false), (2, 1, true), (3, 1, false), (3, 0x6b33_43cf, true), (2, 0x6b33_43cf, false), (2, 2, false)] {
                let long = [&[0xc0 | kind << 4][..], &version.to_be_bytes(), &[id.len() as u8], &id, b"rest"].concat();
                prop_assert_eq!(server_made_id(&long, length), is_read.then_some(&id[..]));
            }
        }

        #[test]
        fn arbitrary_datagrams_never_panic(datagram in prop::collection::vec(any::<u8>(), 0..60), length in 6usize..=20) {
            if let Some(id) = server_made_id(&datagram, length) {
                prop_assert_eq!(id.len(), length);
                let decoder = Decoder::new(0, 1, length, Some(&[7; 16])).unwrap();
                let _ = decoder.server_id(id);
            }
        }
    }
}
