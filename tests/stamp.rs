//! Stamps: one word of version and time, ordered by version, with exactly one spelling as text.

use proptest::prelude::*;
use snapcell::{ParseStampError, Stamp};
use std::collections::HashSet;
use std::error::Error;

fn any_stamp() -> impl Strategy<Value = Stamp> {
    // Both edges and everything between, in both halves.
    let half = || {
        prop_oneof![
            Just(0),
            Just(1),
            Just(u64::MAX - 1),
            Just(u64::MAX),
            any::<u64>()
        ]
    };
    (half(), half()).prop_map(|(version, time)| Stamp::new(version, time))
}

/// Failures are reported, not written beside the tests.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_order_of_packed_words_is_the_order_of_stamps(a in any_stamp(), b in any_stamp()) {
        prop_assert_eq!(a.cmp(&b), a.to_bits().cmp(&b.to_bits()));
        prop_assert_eq!(a == b, a.to_bits() == b.to_bits());
    }

    #[test]
    fn a_greater_version_is_a_greater_stamp_whatever_the_times(a in any_stamp(), b in any_stamp()) {
        prop_assume!(a.version() != b.version());
        prop_assert_eq!(a.cmp(&b), a.version().cmp(&b.version()));
    }

    #[test]
    fn a_stamp_survives_packing(stamp in any_stamp()) {
        prop_assert_eq!(Stamp::from_bits(stamp.to_bits()), stamp);
        prop_assert_eq!(stamp.to_bits() >> 64, u128::from(stamp.version()));
        prop_assert_eq!(stamp.to_bits() as u64, stamp.time());
    }

    #[test]
    fn a_packed_word_survives_unpacking(bits in any::<u128>()) {
        prop_assert_eq!(Stamp::from_bits(bits).to_bits(), bits);
    }

    #[test]
    fn a_stamp_survives_the_way_through_text(stamp in any_stamp()) {
        let text = stamp.to_string();
        prop_assert_eq!(&text, &format!("{}@{}", stamp.version(), stamp.time()));
        prop_assert_eq!(text.parse(), Ok(stamp));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = text.parse::<Stamp>();
    }

    #[test]
    fn what_parses_is_spelled_as_it_is_displayed(text in "[+-]?[0-9]{0,3}@[+-]?[0-9]{0,3}") {
        if let Ok(stamp) = text.parse::<Stamp>() {
            prop_assert_eq!(stamp.to_string(), text);
        }
    }
}

#[test]
fn a_stamp_is_made_of_its_parts_even_in_a_constant() {
    const STAMP: Stamp = Stamp::new(7, 1_000);
    const BITS: u128 = STAMP.to_bits();
    const AGAIN: Stamp = Stamp::from_bits(BITS);
    assert_eq!((STAMP.version(), STAMP.time()), (7, 1_000));
    assert_eq!(BITS, (7 << 64) + 1_000);
    assert_eq!(AGAIN, STAMP);
    assert_eq!(Stamp::default(), Stamp::new(0, 0));
    assert_eq!(
        Stamp::new(u64::MAX, u64::MAX),
        Stamp::from_bits(u128::MAX),
        "all bits are in use"
    );
}

#[test]
fn stamps_sort_by_version_and_then_by_time() {
    let mut stamps = [(2, 0), (1, u64::MAX), (0, 9), (1, 0), (0, 8)]
        .map(|(version, time)| Stamp::new(version, time));
    stamps.sort();
    let sorted = [(0, 8), (0, 9), (1, 0), (1, u64::MAX), (2, 0)];
    assert_eq!(stamps, sorted.map(|(v, t)| Stamp::new(v, t)));
}

#[test]
fn equal_stamps_hash_alike_and_halves_are_not_mixed_up() {
    let set: HashSet<Stamp> = [(1, 2), (2, 1), (1, 2), (3, 0), (0, 3)]
        .map(|(version, time)| Stamp::new(version, time))
        .into();
    assert_eq!(set.len(), 4);
    assert!(set.contains(&Stamp::new(2, 1)));
}

#[test]
fn malformed_texts_are_refused() {
    let malformed = [
        "",
        "1",
        "@",
        "@@",
        "1@",
        "@1",
        "+1@2",
        "1@+2",
        "-1@2",
        "1@-2",
        "-0@0",
        " 1@2",
        "1@2 ",
        "1 @2",
        "1@ 2",
        "1@2\n",
        "\t1@2",
        "1@2@3",
        "1@@2",
        "@1@2",
        "1@2@",
        "18446744073709551616@0",
        "0@18446744073709551616",
        "99999999999999999999999999@1",
        "1_000@2",
        "0x1@2",
        "1.0@2",
        "1e3@2",
        "a@b",
        "\u{661}@2",
        "\u{ff11}@2",
        "1\u{ff20}2",
        "1@2\0",
    ];
    for text in malformed {
        assert!(text.parse::<Stamp>().is_err(), "{text:?} is no stamp");
    }
}

#[test]
fn the_extremes_are_accepted() {
    let accepted = [
        ("0@0", Stamp::new(0, 0)),
        ("0@18446744073709551615", Stamp::new(0, u64::MAX)),
        ("18446744073709551615@0", Stamp::new(u64::MAX, 0)),
        (
            "18446744073709551615@18446744073709551615",
            Stamp::new(u64::MAX, u64::MAX),
        ),
    ];
    for (text, stamp) in accepted {
        assert_eq!(text.parse(), Ok(stamp));
        assert_eq!(stamp.to_string(), text);
    }
}

#[test]
fn leading_zeros_are_refused_since_a_stamp_has_one_spelling_only() {
    // As an ETag a stamp is compared as text, too.
    for text in ["01@2", "1@02", "00@0", "0@00", "007@1"] {
        assert!(
            text.parse::<Stamp>().is_err(),
            "{text:?} is another spelling of {:?}",
            text.parse::<Stamp>().map(|stamp| stamp.to_string())
        );
    }
}

#[test]
fn a_refused_text_is_named_in_the_error() {
    let error = "1@x".parse::<Stamp>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"1@x\" is no stamp: it should read `version@nanoseconds`, two decimal numbers below 2^64"
    );
    assert_eq!(format!("{error:?}"), "ParseStampError { text: \"1@x\" }");
    assert_eq!(error, error.clone());
    assert_ne!(error, "1@y".parse::<Stamp>().unwrap_err());
    assert!(error.source().is_none());

    fn is_an_error<T: Error + Send + Sync + 'static>() {}
    is_an_error::<ParseStampError>();
}

#[test]
fn a_stamp_shows_its_parts_in_debug() {
    assert_eq!(
        format!("{:?}", Stamp::new(3, 4)),
        "Stamp { version: 3, time: 4 }"
    );
}

/// As text for people, as a pair of numbers for machines.
#[cfg(feature = "serde")]
mod with_serde {
    use super::*;
    use serde::de::value::{Error as ValueError, SeqDeserializer};
    use serde::de::{Deserializer, Visitor};
    use serde::ser::{Impossible, SerializeTuple, Serializer};
    use serde::{Deserialize, Serialize, forward_to_deserialize_any};

    /// A format for machines that knows only sequences of numbers.
    struct Machine;

    struct Numbers(Vec<u64>);

    macro_rules! not_in_this_format {
        ($($call:ident($($ty:ty),*) -> $out:ty;)*) => {$(
            fn $call(self, $(_: $ty),*) -> Result<$out, ValueError> {
                unimplemented!(stringify!($call))
            }
        )*};
    }

    type No = Impossible<Vec<u64>, ValueError>;

    impl Serializer for Machine {
        type Ok = Vec<u64>;
        type Error = ValueError;
        type SerializeSeq = No;
        type SerializeTuple = Numbers;
        type SerializeTupleStruct = No;
        type SerializeTupleVariant = No;
        type SerializeMap = No;
        type SerializeStruct = No;
        type SerializeStructVariant = No;

        fn is_human_readable(&self) -> bool {
            false
        }

        fn serialize_u64(self, number: u64) -> Result<Vec<u64>, ValueError> {
            Ok(vec![number])
        }

        fn serialize_tuple(self, len: usize) -> Result<Numbers, ValueError> {
            assert_eq!(len, 2);
            Ok(Numbers(Vec::new()))
        }

        fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<Vec<u64>, ValueError> {
            unimplemented!()
        }

        fn serialize_newtype_struct<T: ?Sized + Serialize>(
            self,
            _: &'static str,
            _: &T,
        ) -> Result<Vec<u64>, ValueError> {
            unimplemented!()
        }

        fn serialize_newtype_variant<T: ?Sized + Serialize>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<Vec<u64>, ValueError> {
            unimplemented!()
        }

        not_in_this_format! {
            serialize_bool(bool) -> Vec<u64>;
            serialize_i8(i8) -> Vec<u64>;
            serialize_i16(i16) -> Vec<u64>;
            serialize_i32(i32) -> Vec<u64>;
            serialize_i64(i64) -> Vec<u64>;
            serialize_u8(u8) -> Vec<u64>;
            serialize_u16(u16) -> Vec<u64>;
            serialize_u32(u32) -> Vec<u64>;
            serialize_f32(f32) -> Vec<u64>;
            serialize_f64(f64) -> Vec<u64>;
            serialize_char(char) -> Vec<u64>;
            serialize_str(&str) -> Vec<u64>;
            serialize_bytes(&[u8]) -> Vec<u64>;
            serialize_none() -> Vec<u64>;
            serialize_unit() -> Vec<u64>;
            serialize_unit_struct(&'static str) -> Vec<u64>;
            serialize_unit_variant(&'static str, u32, &'static str) -> Vec<u64>;
            serialize_seq(Option<usize>) -> No;
            serialize_tuple_struct(&'static str, usize) -> No;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No;
            serialize_map(Option<usize>) -> No;
            serialize_struct(&'static str, usize) -> No;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> No;
        }
    }

    impl SerializeTuple for Numbers {
        type Ok = Vec<u64>;
        type Error = ValueError;

        fn serialize_element<T: ?Sized + Serialize>(&mut self, part: &T) -> Result<(), ValueError> {
            self.0.extend(part.serialize(Machine)?);
            Ok(())
        }

        fn end(self) -> Result<Vec<u64>, ValueError> {
            Ok(self.0)
        }
    }

    impl<'de> Deserializer<'de> for Numbers {
        type Error = ValueError;

        fn is_human_readable(&self) -> bool {
            false
        }

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            visitor.visit_seq(SeqDeserializer::new(self.0.into_iter()))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_stamp_survives_the_way_through_json(stamp in any_stamp()) {
            let json = serde_json::to_string(&stamp).unwrap();
            prop_assert_eq!(&json, &format!("\"{stamp}\""));
            prop_assert_eq!(serde_json::from_str::<Stamp>(&json).unwrap(), stamp);
        }

        #[test]
        fn a_stamp_survives_the_way_through_a_format_for_machines(stamp in any_stamp()) {
            let pair = stamp.serialize(Machine).unwrap();
            prop_assert_eq!(&pair, &vec![stamp.version(), stamp.time()]);
            prop_assert_eq!(Stamp::deserialize(Numbers(pair)).unwrap(), stamp);
        }
    }

    #[test]
    fn malformed_stamps_are_refused_on_the_way_in() {
        for json in ["\"1\"", "\"+1@2\"", "\"1@2@3\"", "1", "[1,2]", "null", "{}"] {
            assert!(serde_json::from_str::<Stamp>(json).is_err(), "{json}");
        }
        for numbers in [vec![], vec![1]] {
            assert!(
                Stamp::deserialize(Numbers(numbers.clone())).is_err(),
                "{numbers:?}"
            );
        }
        let error = serde_json::from_str::<Stamp>("\"1@x\"").unwrap_err();
        assert!(error.to_string().contains("\"1@x\" is no stamp"), "{error}");
    }
}
