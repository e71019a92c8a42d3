//! The declarations that a format is made of: sections with keys, words to choose from, texts with an inner form.
//!
//! As macros, because each makes three things of one declaration that no trait makes of a type: the type itself, its
//! reader, and its part of the JSON schema with the documentation of each key.

/// Declares a section: a mapping, by its keys.
///
/// ```text
/// section! {
///     /// What it is.
///     Name "what messages call it":
///     /// What the key means.
///     field "key": required Type;          // Option<Type>; reported where missing
///     field "key": optional Type;          // Option<Type>
///     field "key": default Type = value;   // Type
///     field "key": list List<Type, 0>;     // List<Type, 0>, empty where left out
///     field "key": nested OtherSection;    // OtherSection, whose keys all have defaults
/// }
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $Name:ident $called:literal:
        $( $(#[doc = $doc:literal])+ $field:ident $key:literal: $kind:ident $T:ty $(= $default:expr)?; )+
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(crate) struct $Name {
            $( $(#[doc = $doc])+ pub(crate) $field: $crate::section!(@type $kind $T), )+
        }

        impl $crate::Section for $Name {
            fn of(entries: &mut $crate::Entries<'_>) -> Self {
                Self { $( $field: $crate::section!(@read $kind entries $key $T $(, $default)?), )+ }
            }
        }

        impl $crate::Read for $Name {
            fn read(node: &$crate::Node, key: &str, mistakes: &mut $crate::Mistakes) -> Option<Self> {
                let mut entries = $crate::Entries::of(node, key, $called, &[$($key),+], mistakes)?;
                Some(<Self as $crate::Section>::of(&mut entries))
            }

            fn title() -> String {
                $called.to_owned()
            }

            fn schema() -> $crate::Json {
                let mut properties = $crate::Properties::new();
                let required = [$($crate::section!(@needed $kind $key)),+];
                $(
                    let default = $crate::section!(@default $T $(, $default)?);
                    let schema = $crate::described::<$T>(concat!($($doc),+), default);
                    properties.insert($key.to_owned(), schema);
                )+
                $crate::section_schema(&properties, &required)
            }
        }
    };
    (@type required $T:ty) => { Option<$T> };
    (@type optional $T:ty) => { Option<$T> };
    (@type default $T:ty) => { $T };
    (@type list $T:ty) => { $T };
    (@type nested $T:ty) => { $T };
    (@read required $entries:ident $key:literal $T:ty) => { $entries.required::<$T>($key) };
    (@read optional $entries:ident $key:literal $T:ty) => { $entries.optional::<$T>($key) };
    (@read default $entries:ident $key:literal $T:ty, $default:expr) => { $entries.default::<$T>($key, $default.into()) };
    (@read list $entries:ident $key:literal $T:ty) => { $entries.list($key) };
    (@read nested $entries:ident $key:literal $T:ty) => { $entries.nested::<$T>($key) };
    (@needed required $key:literal) => { Some($key) };
    (@needed $kind:ident $key:literal) => { None };
    (@default $T:ty) => { None };
    (@default $T:ty, $default:expr) => { Some(<$T as $crate::Shown>::shown(&$default.into())) };
}

/// Words to choose from, each with its variant; every one of them may be a default.
#[macro_export]
macro_rules! choice {
    ($Type:ident: $($word:literal $Variant:ident),+) => {
        impl $crate::Choice for $Type {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$Variant)),+];
        }

        impl $crate::Shown for $Type {
            fn shown(&self) -> $crate::Json {
                $crate::word(*self).into()
            }
        }
    };
}

/// A scalar that is a checked text.
#[macro_export]
macro_rules! text {
    ($(#[doc = $doc:literal])+ $Name:ident($Inner:ty), $expected:literal, $parse:expr, $pattern:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub(crate) struct $Name(pub(crate) $Inner);

        impl $crate::Scalar for $Name {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn parse(text: &str) -> Result<Self, $crate::Wrong> {
                let parse: fn(&str) -> Result<$Inner, $crate::Wrong> = $parse;
                parse(text).map(Self)
            }

            fn schema() -> $crate::Json {
                $crate::patterned($pattern)
            }
        }

        impl $crate::Shown for $Name {
            fn shown(&self) -> $crate::Json {
                self.0.as_str().into()
            }
        }
    };
}
