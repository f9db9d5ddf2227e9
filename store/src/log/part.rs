//! One segment in the form that counts: whole, or thinned.

use std::{io, path::Path, sync::Arc};

use centaur_apis::units::Lsn;

use super::{
    block::Tip,
    segment::{Home, Segment},
    thin::Thin,
};

/// A segment of the log as its readers see it.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Whole(Arc<Segment>),
    /// Sealed; of its records only some are left.
    Thinned(Arc<Thin>),
}

impl Part {
    /// Reads what tells about the segment at `base`; none if no sound file does.
    ///
    /// A crash may leave both files. The thinned one counts if it is whole, and all of it is read to
    /// know: from then on the other is not needed.
    pub(super) fn load(home: &Home, base: Lsn) -> io::Result<Option<Self>> {
        let thin = if_there(Thin::load(home, base))?;
        let whole = if_there(Segment::load(home, base))?;
        Ok(match (thin.flatten(), whole) {
            (Some(thin), None) => Some(Self::Thinned(Arc::new(thin))),
            (Some(thin), Some(_)) if thin.is_whole()? => Some(Self::Thinned(Arc::new(thin))),
            (_, whole) => whole.flatten().map(|segment| Self::Whole(Arc::new(segment))),
        })
    }

    /// Where it begins.
    pub(super) fn start(&self) -> Tip {
        match self {
            Self::Whole(segment) => segment.header.start,
            Self::Thinned(thin) => thin.start,
        }
    }

    pub(super) fn base(&self) -> Lsn {
        self.start().lsn
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Whole(segment) => &segment.path,
            Self::Thinned(thin) => &thin.path,
        }
    }

    pub(super) fn is_thinned(&self) -> bool {
        matches!(self, Self::Thinned(_))
    }

    /// Bytes its file takes.
    pub(super) fn file_bytes(&self) -> u64 {
        match self {
            Self::Whole(segment) => segment.header.file_bytes,
            Self::Thinned(thin) => thin.file_bytes(),
        }
    }
}

fn if_there<T>(loaded: io::Result<T>) -> io::Result<Option<T>> {
    match loaded {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        loaded => loaded.map(Some),
    }
}
