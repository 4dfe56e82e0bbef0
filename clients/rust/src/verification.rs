//! Verification of content that arrives in pieces.

use model::{Composite, Sha256};

use crate::{Content, Error, Sha256Stream};

/// Computes the digests of content that arrives in pieces, and compares them with those of its version.
///
/// A version that was uploaded in parts has two digests: the SHA-256 of the whole, which the uploader
/// declared and nobody has verified, and the composite SHA-256, which storage has verified.
#[derive(Clone)]
pub struct Verification {
    sha256: Sha256,
    whole: Sha256Stream,
    parts: Option<PartsStream>,
}

/// Computes the composite SHA-256 of content that arrives in pieces.
#[derive(Clone)]
pub(crate) struct PartsStream {
    composite: Composite,
    part: Sha256Stream,
    /// Bytes of the current part so far.
    length: u64,
    /// The SHA-256 over the SHA-256s of the parts before it.
    digests: Sha256Stream,
}

impl Verification {
    /// Starts the verification, before the first byte of the content.
    pub fn of(content: &Content) -> Self {
        // With a part size of 0, `update` would never end.
        let composite = content
            .composite
            .filter(|composite| composite.part_size.get() > 0);
        Self {
            sha256: content.sha256,
            whole: Sha256Stream::default(),
            parts: composite.map(PartsStream::new),
        }
    }

    /// Adds the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        self.whole.update(piece);
        if let Some(parts) = &mut self.parts {
            parts.update(piece);
        }
    }

    /// Compares the digests of all pieces. [`Error::Mismatch`] means that at least one of them differs.
    pub fn finish(self) -> Result<(), Error> {
        let is_composite_right = self.matches_composite() != Some(false);
        if is_composite_right && self.whole.finish() == self.sha256 {
            Ok(())
        } else {
            Err(Error::Mismatch)
        }
    }

    /// Whether the content has the composite SHA-256 that storage has verified; `None` if the version has
    /// none. The SHA-256 that the uploader declared does not count.
    pub(crate) fn matches_composite(&self) -> Option<bool> {
        self.parts.clone().map(PartsStream::matches)
    }
}

impl PartsStream {
    /// Before the first byte of the content. The part size must not be 0.
    pub(crate) fn new(composite: Composite) -> Self {
        Self {
            composite,
            part: Sha256Stream::default(),
            length: 0,
            digests: Sha256Stream::default(),
        }
    }

    /// Adds the next piece of the content.
    pub(crate) fn update(&mut self, mut piece: &[u8]) {
        let part_size = self.composite.part_size.get().unsigned_abs();
        while !piece.is_empty() {
            // A full part is ended when more data arrives. `matches` ends the last part, whatever its size.
            if self.length == part_size {
                self.end_part();
            }
            let left = usize::try_from(part_size - self.length).unwrap_or(usize::MAX);
            let (of_part, rest) = piece.split_at(left.min(piece.len()));
            self.part.update(of_part);
            self.length += of_part.len() as u64;
            piece = rest;
        }
    }

    fn end_part(&mut self) {
        let part = std::mem::take(&mut self.part);
        self.digests.update(part.finish().as_bytes());
        self.length = 0;
    }

    /// Whether all pieces together have the composite SHA-256.
    pub(crate) fn matches(mut self) -> bool {
        self.end_part();
        self.digests.finish() == self.composite.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;

    fn content(bytes: &[u8], part_size: usize) -> Content {
        let parts: Vec<u8> = bytes
            .chunks(part_size)
            .flat_map(|part| *sha256(part).as_bytes())
            .collect();
        Content {
            file_id: uuid::Uuid::from_u128(1).into(),
            version: 1.try_into().unwrap(),
            size: i64::try_from(bytes.len()).unwrap().try_into().unwrap(),
            sha256: sha256(bytes),
            composite: Some(Composite {
                part_size: i64::try_from(part_size).unwrap().try_into().unwrap(),
                sha256: sha256(&parts),
            }),
            modified_at: None,
            executable: None,
        }
    }

    fn verify(content: &Content, bytes: &[u8], piece: usize) -> Result<(), Error> {
        let mut verification = Verification::of(content);
        for piece in bytes.chunks(piece) {
            verification.update(piece);
        }
        verification.finish()
    }

    #[test]
    fn parts_have_the_stored_layout_for_any_read_size() {
        let bytes: Vec<u8> = (0..=255).collect();
        for part_size in [1, 7, 64, 128, 255, 256, 257] {
            let whole = content(&bytes, part_size);
            for piece in [1, 3, 64, 200, 256] {
                verify(&whole, &bytes, piece).unwrap();
            }
        }
    }

    #[test]
    fn both_digests_are_checked() {
        let right = content(b"0123456789", 4);
        let of = |change: fn(&mut Content)| {
            let mut content = right.clone();
            change(&mut content);
            verify(&content, b"0123456789", 10)
        };
        of(|_| ()).unwrap();
        assert!(matches!(
            of(|it| it.sha256 = [0; 32].into()),
            Err(Error::Mismatch)
        ));
        let other = |it: &mut Content| it.composite.as_mut().unwrap().sha256 = [0; 32].into();
        assert!(matches!(of(other), Err(Error::Mismatch)));
        let cut = |it: &mut Content| it.composite.as_mut().unwrap().part_size = 5.try_into().unwrap();
        assert!(matches!(of(cut), Err(Error::Mismatch)));
    }
}
