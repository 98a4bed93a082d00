//! The wire once more, written from the protocol's text alone: what judges a server must not share
//! its code.

pub(crate) const HEADER_BYTES: usize = 8;

/// One frame: code and body.
pub(crate) type Frame = (u16, Vec<u8>);

pub(crate) fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    raw_frame((HEADER_BYTES + body.len()) as u16, code, crc32(body), body)
}

/// A frame whose header may lie.
pub(crate) fn raw_frame(length: u16, code: u16, checksum: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

/// Reflected 0x04C11DB7, initial and final 0xFFFFFFFF.
pub(crate) fn crc32(body: &[u8]) -> u32 {
    !body.iter().fold(!0_u32, |crc, byte| {
        CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// What a peer makes of the bytes that come from the server.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    read: usize,
}

impl Reader {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of a frame that is not whole.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// The next whole frame; an error if these are no frames.
    pub(crate) fn next(&mut self, frame_bytes_max: usize) -> Result<Option<Frame>, String> {
        let rest = &self.bytes[self.read..];
        if rest.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = usize::from(u16_at(rest, 0));
        if !(HEADER_BYTES..=frame_bytes_max).contains(&length) {
            return Err(format!("a frame of {length} bytes came from the server"));
        }
        let Some(body) = rest.get(HEADER_BYTES..length) else {
            return Ok(None);
        };
        if crc32(body) != u32_at(rest, 4) {
            return Err("a frame with a wrong checksum came from the server".to_owned());
        }
        let whole = (u16_at(rest, 2), body.to_vec());
        self.read += length;
        Ok(Some(whole))
    }
}
