//! Numbers that must not be mixed up.

use std::fmt;

// Five newtypes that differ in their name only.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A place in a commit log, in bytes from its beginning.
    Lsn(u64)
}
number! {
    /// A place in one queue, in messages from its beginning.
    QueueOffset(u64)
}
number! {
    /// A queue within its topic.
    QueueId(u32)
}
number! {
    /// A leader's generation; only ever grows.
    Term(u64)
}
number! {
    /// Store time, or a span of it, in milliseconds.
    Millis(u64)
}

impl Lsn {
    /// The place `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}
