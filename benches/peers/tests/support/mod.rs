//! What every peer has to hold, whatever it is written with: [`promises`] makes a test of each.

mod peer;
pub(crate) mod promise;
mod wire;

pub(crate) use peer::Peer;

/// One test for each promise, of the peer that `$program` finds.
macro_rules! promises {
    ($program:expr; $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                $crate::support::promise::$promise(&$crate::support::Peer::start($program));
            }
        )*
    };
    ($program:expr) => {
        $crate::support::promises! {
            $program;
            the_test_vectors_are_answered
            a_stream_may_be_cut_anywhere
            replies_come_in_the_order_of_requests
            long_bodies_are_pipelined
            a_slow_reader_is_not_read_from
            what_is_no_request_closes_behind_the_replies
            a_half_closed_stream_is_answered
            a_hundred_connections_are_served
            connections_that_break_harm_no_other
        }

        #[test]
        fn wrong_words_have_status_2() {
            $crate::support::promise::wrong_words_have_status_2($program);
        }
    };
}
pub(crate) use promises;
