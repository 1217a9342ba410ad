//! `OSSL_PARAM` arrays: what a caller gives, what a caller asks for, and what we give to a callback.

use super::abi::{
    Callback, OSSL_PARAM_INTEGER, OSSL_PARAM_OCTET_STRING, OSSL_PARAM_UNSIGNED_INTEGER, OSSL_PARAM_UTF8_PTR,
    OSSL_PARAM_UTF8_STRING, Param,
};
use crate::problem::Problem;
use std::ffi::{CStr, c_int, c_uint, c_void};

/// An array of parameters from the calling program; null means empty.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    first: *const Param,
    _array: std::marker::PhantomData<&'a Param>,
}

impl<'a> Given<'a> {
    /// # Safety
    /// `first` is null or an array of valid parameters that a null key ends, alive for `'a`.
    pub(super) unsafe fn new(first: *const Param) -> Self {
        Self { first, _array: std::marker::PhantomData }
    }

    fn find(self, name: &CStr) -> Option<&'a Param> {
        // SAFETY: `new`'s promise.
        unsafe { find(self.first.cast_mut(), name) }.map(|param| &*param)
    }

    /// The bytes of an octet string, where the parameter is there.
    pub(super) fn octets(self, name: &CStr) -> Result<Option<&'a [u8]>, Problem> {
        let Some(param) = self.find(name) else { return Ok(None) };
        if param.data_type != OSSL_PARAM_OCTET_STRING as c_uint {
            return Err(wrong_type(name, "an octet string"));
        }
        if param.data.is_null() {
            // Taken as absent, a null seed would become a random key.
            return if param.data_size == 0 {
                Ok(Some(&[]))
            } else {
                Err(wrong_type(name, "an octet string with data"))
            };
        }
        // SAFETY: an octet string's data has `data_size` bytes.
        Ok(Some(unsafe { std::slice::from_raw_parts(param.data.cast(), param.data_size) }))
    }

    /// Whether a number is not zero, where the parameter is there.
    pub(super) fn flag(self, name: &CStr) -> Result<Option<bool>, Problem> {
        let Some(param) = self.find(name) else { return Ok(None) };
        let is_number =
            [OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER].contains(&(param.data_type as c_int));
        if !is_number || param.data.is_null() || !matches!(param.data_size, 1..=8) {
            return Err(wrong_type(name, "an integer"));
        }
        // SAFETY: an integer's data has `data_size` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(param.data.cast::<u8>(), param.data_size) };
        Ok(Some(bytes.iter().any(|byte| *byte != 0)))
    }

    /// A number of at most 8 bytes, where the parameter is there.
    pub(super) fn number(self, name: &CStr) -> Result<Option<i64>, Problem> {
        let Some(param) = self.find(name) else { return Ok(None) };
        let signed = param.data_type as c_int == OSSL_PARAM_INTEGER;
        if (!signed && param.data_type as c_int != OSSL_PARAM_UNSIGNED_INTEGER) || param.data.is_null() {
            return Err(wrong_type(name, "an integer"));
        }
        // SAFETY: an integer's data has `data_size` bytes; it need not be aligned.
        let number = unsafe {
            match (param.data_size, signed) {
                (4, true) => i64::from(param.data.cast::<i32>().read_unaligned()),
                (4, false) => i64::from(param.data.cast::<u32>().read_unaligned()),
                (8, true) => param.data.cast::<i64>().read_unaligned(),
                (8, false) => i64::try_from(param.data.cast::<u64>().read_unaligned())
                    .map_err(|_| wrong_type(name, "an integer below 2^63"))?,
                _ => return Err(wrong_type(name, "an integer of 4 or 8 bytes")),
            }
        };
        Ok(Some(number))
    }

    /// A natural number of any size, big-endian without leading zeros, where the parameter is there.
    pub(super) fn natural(self, name: &CStr) -> Result<Option<Vec<u8>>, Problem> {
        let Some(param) = self.find(name) else { return Ok(None) };
        if param.data_type as c_int != OSSL_PARAM_UNSIGNED_INTEGER || param.data.is_null() {
            return Err(wrong_type(name, "an unsigned integer"));
        }
        // SAFETY: an integer's data has `data_size` bytes.
        let native = unsafe { std::slice::from_raw_parts(param.data.cast::<u8>(), param.data_size) };
        let mut bytes = native.to_vec();
        if cfg!(target_endian = "little") {
            bytes.reverse();
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.drain(..zeros);
        Ok(Some(bytes))
    }

    /// Whether the parameter is there and is a text, where it may be a number too.
    pub(super) fn is_text(self, name: &CStr) -> bool {
        self.find(name).is_some_and(|param| param.data_type as c_int == OSSL_PARAM_UTF8_STRING)
    }

    /// Whether the parameter is there and carries nothing, as a null cipher name does.
    pub(super) fn is_void(self, name: &CStr) -> bool {
        self.find(name).is_some_and(|param| param.data.is_null())
    }

    /// The text of a UTF-8 string, where the parameter is there.
    pub(super) fn text(self, name: &CStr) -> Result<Option<&'a str>, Problem> {
        let Some(param) = self.find(name) else { return Ok(None) };
        let bytes = match param.data_type as c_int {
            OSSL_PARAM_UTF8_STRING if param.data.is_null() => &[][..],
            // SAFETY: a UTF-8 string's data has `data_size` bytes; a terminating null byte may stand among them.
            OSSL_PARAM_UTF8_STRING => unsafe {
                std::slice::from_raw_parts(param.data.cast(), param.data_size)
            },
            _ => return Err(wrong_type(name, "a UTF-8 string")),
        };
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).map(Some).map_err(|_| wrong_type(name, "a UTF-8 string"))
    }
}

/// An array of parameters that the calling program wants filled in; null means none.
pub(super) struct Asked<'a> {
    first: *mut Param,
    _array: std::marker::PhantomData<&'a mut Param>,
}

impl Asked<'_> {
    /// # Safety
    /// `first` is null or an array of valid, writable parameters that a null key ends, alive for the lifetime.
    pub(super) unsafe fn new(first: *mut Param) -> Self {
        Self { first, _array: std::marker::PhantomData }
    }

    fn find(&mut self, name: &CStr) -> Option<&mut Param> {
        // SAFETY: `new`'s promise; `self` is borrowed mutably, so no two references overlap.
        unsafe { find(self.first, name) }
    }

    /// Answers with a number.
    pub(super) fn answer_number(&mut self, name: &CStr, value: u32) -> Result<(), Problem> {
        let Some(param) = self.find(name) else { return Ok(()) };
        if ![OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER].contains(&(param.data_type as c_int)) {
            return Err(wrong_type(name, "an integer"));
        }
        let value = u64::from(value);
        let (bytes, size) = match param.data_size {
            // Every value given here is below 2^31, so signed and unsigned agree.
            4 => (&(value as u32).to_ne_bytes()[..], 4),
            8 => (&value.to_ne_bytes()[..], 8),
            _ if param.data.is_null() => (&[][..], size_of::<u32>()),
            _ => return Err(wrong_type(name, "an integer of 4 or 8 bytes")),
        };
        // SAFETY: `data` is null or has `data_size` bytes, which is the length of `bytes`.
        unsafe { write(param, bytes, size) }
        Ok(())
    }

    /// Answers with a natural number of any size, given big-endian.
    pub(super) fn answer_natural(&mut self, name: &CStr, big_endian: &[u8]) -> Result<(), Problem> {
        let Some(param) = self.find(name) else { return Ok(()) };
        if param.data_type as c_int != OSSL_PARAM_UNSIGNED_INTEGER {
            return Err(wrong_type(name, "an unsigned integer"));
        }
        fits(name, param, big_endian.len())?;
        if param.data.is_null() {
            param.return_size = big_endian.len();
            return Ok(());
        }
        // As `OSSL_PARAM_set_BN`: the whole place is filled.
        let bytes = native_natural(big_endian, param.data_size);
        // SAFETY: `data` has `data_size` bytes, which is the length of `bytes`.
        unsafe { write(param, &bytes, bytes.len()) };
        Ok(())
    }

    /// Whether it is a text that is asked for, where it may be a number too.
    pub(super) fn asks_for_text(&mut self, name: &CStr) -> bool {
        self.find(name).is_some_and(|param| param.data_type as c_int == OSSL_PARAM_UTF8_STRING)
    }

    /// Answers with bytes.
    pub(super) fn answer_octets(&mut self, name: &CStr, bytes: &[u8]) -> Result<(), Problem> {
        let Some(param) = self.find(name) else { return Ok(()) };
        if param.data_type != OSSL_PARAM_OCTET_STRING as c_uint {
            return Err(wrong_type(name, "an octet string"));
        }
        // SAFETY: `data` is null or has `data_size` bytes, and `fits` holds.
        fits(name, param, bytes.len()).map(|()| unsafe { write(param, bytes, bytes.len()) })
    }

    /// Answers with a text.
    pub(super) fn answer_text(&mut self, name: &CStr, text: &str) -> Result<(), Problem> {
        let Some(param) = self.find(name) else { return Ok(()) };
        if param.data_type != OSSL_PARAM_UTF8_STRING as c_uint {
            return Err(wrong_type(name, "a UTF-8 string"));
        }
        fits(name, param, text.len())?;
        // SAFETY: `data` is null or has `data_size` bytes, and `fits` held; the null byte is written where there is room.
        unsafe {
            write(param, text.as_bytes(), text.len());
            if !param.data.is_null() && param.data_size > text.len() {
                *param.data.cast::<u8>().add(text.len()) = 0;
            }
        }
        Ok(())
    }

    /// Answers with a text that lives as long as the process: by pointer or by copy, as the caller asks.
    pub(super) fn answer_static_text(&mut self, name: &CStr, text: &'static CStr) -> Result<(), Problem> {
        match self.find(name) {
            Some(param) if param.data_type == OSSL_PARAM_UTF8_PTR as c_uint => {
                param.return_size = text.count_bytes();
                if !param.data.is_null() {
                    // SAFETY: a UTF-8 pointer's data is a place for a pointer.
                    unsafe { *param.data.cast() = text.as_ptr() };
                }
                Ok(())
            }
            _ => self.answer_text(name, text.to_str().unwrap_or_default()),
        }
    }

    /// Whether the caller asks for this, so that an expensive answer is made only then.
    pub(super) fn asks(&mut self, name: &CStr) -> bool {
        self.find(name).is_some()
    }
}

/// The parameters of a callback, built on the stack.
pub(super) struct Built<'a, const ROOM: usize> {
    params: [Param; ROOM],
    count: usize,
    _data: std::marker::PhantomData<&'a ()>,
}

impl<'a, const ROOM: usize> Built<'a, ROOM> {
    /// An array for at most `ROOM - 1` parameters: the last place is its end.
    pub(super) fn new() -> Self {
        Self { params: [const { end() }; ROOM], count: 0, _data: std::marker::PhantomData }
    }

    pub(super) fn octets(self, name: &'static CStr, bytes: &'a [u8]) -> Self {
        self.push(name, OSSL_PARAM_OCTET_STRING, bytes.as_ptr().cast(), bytes.len())
    }

    /// A natural number of any size, as [`native_natural`] writes it.
    pub(super) fn natural(self, name: &'static CStr, native: &'a [u8]) -> Self {
        self.push(name, OSSL_PARAM_UNSIGNED_INTEGER, native.as_ptr().cast(), native.len())
    }

    pub(super) fn text(self, name: &'static CStr, text: &'a CStr) -> Self {
        self.push(name, OSSL_PARAM_UTF8_STRING, text.as_ptr().cast(), text.count_bytes())
    }

    pub(super) fn unsigned(self, name: &'static CStr, value: &'a c_uint) -> Self {
        self.push(name, OSSL_PARAM_UNSIGNED_INTEGER, std::ptr::from_ref(value).cast(), size_of::<c_uint>())
    }

    pub(super) fn signed(self, name: &'static CStr, value: &'a c_int) -> Self {
        self.push(name, OSSL_PARAM_INTEGER, std::ptr::from_ref(value).cast(), size_of::<c_int>())
    }

    /// The place of a pointer to an object that the callback may take away, leaving null.
    pub(super) fn reference(self, name: &'static CStr, place: &'a mut *mut c_void) -> Self {
        self.push(name, OSSL_PARAM_OCTET_STRING, std::ptr::from_mut(place).cast(), size_of::<*mut c_void>())
    }

    fn push(mut self, name: &'static CStr, data_type: c_int, data: *const c_void, data_size: usize) -> Self {
        assert!(self.count + 1 < ROOM, "room for the parameters and their end");
        self.params[self.count] = Param {
            key: name.as_ptr(),
            data_type: data_type as c_uint,
            // A callback only reads what it is given (OSSL_CALLBACK takes a const array).
            data: data.cast_mut(),
            data_size,
            return_size: usize::MAX,
        };
        self.count += 1;
        self
    }

    /// Calls OpenSSL back with these parameters.
    ///
    /// # Safety
    /// `callback` may be called with `argument`.
    pub(super) unsafe fn call(&self, callback: Callback, argument: *mut c_void) -> c_int {
        // SAFETY: the array is ended; the caller's promise.
        unsafe { callback(self.params.as_ptr(), argument) }
    }
}

/// A natural number, given big-endian, in so many bytes of this machine's order.
pub(super) fn native_natural(big_endian: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size.saturating_sub(big_endian.len())];
    bytes.extend_from_slice(big_endian);
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    bytes
}

/// An entry of a static array that tells which parameters there are.
pub(super) const fn described(name: &'static CStr, data_type: c_int) -> Param {
    Param {
        key: name.as_ptr(),
        data_type: data_type as c_uint,
        data: std::ptr::null_mut(),
        data_size: 0,
        return_size: usize::MAX,
    }
}

/// The end of an array.
pub(super) const fn end() -> Param {
    Param { key: std::ptr::null(), data_type: 0, data: std::ptr::null_mut(), data_size: 0, return_size: 0 }
}

/// # Safety
/// `param` is null or an array that a null key ends; nothing else refers to it.
unsafe fn find<'a>(mut param: *mut Param, name: &CStr) -> Option<&'a mut Param> {
    if param.is_null() {
        return None;
    }
    // SAFETY: the walk stops at the end; keys are C strings.
    unsafe {
        while !(*param).key.is_null() {
            if CStr::from_ptr((*param).key) == name {
                return Some(&mut *param);
            }
            param = param.add(1);
        }
    }
    None
}

fn fits(name: &CStr, param: &mut Param, needed: usize) -> Result<(), Problem> {
    if param.data.is_null() || param.data_size >= needed {
        return Ok(());
    }
    param.return_size = needed;
    Err(Problem::argument(format!(
        "the buffer for '{}' has {} bytes, {needed} are needed",
        name.to_string_lossy(),
        param.data_size
    )))
}

/// # Safety
/// `data` is null or may be written for the length of `bytes`.
unsafe fn write(param: &mut Param, bytes: &[u8], size: usize) {
    param.return_size = size;
    if !param.data.is_null() {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), param.data.cast(), bytes.len()) }
    }
}

fn wrong_type(name: &CStr, expected: &str) -> Problem {
    Problem::argument(format!("the parameter '{}' must be {expected}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::{null, null_mut};

    fn param(data_type: c_int, data: *mut c_void, data_size: usize) -> [Param; 2] {
        [Param { data_type: data_type as c_uint, data, data_size, ..described(c"wanted", 0) }, end()]
    }

    /// What an answer makes of a parameter.
    fn ask(
        params: &mut [Param; 2],
        answer: impl FnOnce(&mut Asked<'_>) -> Result<(), Problem>,
    ) -> Result<usize, Problem> {
        // SAFETY: an ended array whose data is what its types and sizes say.
        let mut asked = unsafe { Asked::new(params.as_mut_ptr()) };
        answer(&mut asked)?;
        Ok(params[0].return_size)
    }

    #[test]
    fn a_number_is_answered_in_the_size_that_is_asked_for() {
        let (mut small, mut large) = (-1_i32, u64::MAX);
        for data_type in [OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER] {
            let mut params = param(data_type, (&raw mut small).cast(), 4);
            assert_eq!(ask(&mut params, |asked| asked.answer_number(c"wanted", 192)).unwrap(), 4);
            let mut params = param(data_type, (&raw mut large).cast(), 8);
            assert_eq!(ask(&mut params, |asked| asked.answer_number(c"wanted", 192)).unwrap(), 8);
            assert_eq!((small, large), (192, 192));
            (small, large) = (-1, u64::MAX);
        }
        let mut params = param(OSSL_PARAM_INTEGER, null_mut(), 0);
        assert_eq!(ask(&mut params, |asked| asked.answer_number(c"wanted", 192)).unwrap(), 4);
        let mut byte = 7_u8;
        let mut params = param(OSSL_PARAM_INTEGER, (&raw mut byte).cast(), 1);
        assert!(ask(&mut params, |asked| asked.answer_number(c"wanted", 192)).is_err());
        let mut params = param(OSSL_PARAM_UTF8_STRING, (&raw mut large).cast(), 8);
        assert!(ask(&mut params, |asked| asked.answer_number(c"wanted", 192)).is_err());
        assert_eq!(byte, 7);
    }

    #[test]
    fn a_text_is_ended_where_there_is_room_and_refused_with_its_size_where_it_does_not_fit() {
        for (room, expected) in [(3, *b"abc##"), (4, *b"abc\0#")] {
            let mut buffer = *b"#####";
            let mut params = param(OSSL_PARAM_UTF8_STRING, buffer.as_mut_ptr().cast(), room);
            assert_eq!(ask(&mut params, |asked| asked.answer_text(c"wanted", "abc")).unwrap(), 3);
            assert_eq!(buffer, expected);
        }
        let mut buffer = *b"##";
        let mut params = param(OSSL_PARAM_UTF8_STRING, buffer.as_mut_ptr().cast(), 2);
        assert!(ask(&mut params, |asked| asked.answer_text(c"wanted", "abc")).is_err());
        assert_eq!((params[0].return_size, &buffer), (3, b"##"));
    }

    #[test]
    fn a_static_text_is_answered_by_pointer_or_by_copy() {
        let mut place: *const std::ffi::c_char = null();
        let mut params = param(OSSL_PARAM_UTF8_PTR, (&raw mut place).cast(), 0);
        let text = c"Q-TLS";
        assert_eq!(ask(&mut params, |asked| asked.answer_static_text(c"wanted", text)).unwrap(), 5);
        assert_eq!(place, text.as_ptr());
        let mut buffer = [0xff_u8; 8];
        let mut params = param(OSSL_PARAM_UTF8_STRING, buffer.as_mut_ptr().cast(), 8);
        assert_eq!(ask(&mut params, |asked| asked.answer_static_text(c"wanted", text)).unwrap(), 5);
        assert_eq!(&buffer[..6], b"Q-TLS\0");
    }

    #[test]
    fn what_is_not_asked_for_is_left_alone() {
        let mut value = 7_i32;
        let mut params = param(OSSL_PARAM_INTEGER, (&raw mut value).cast(), 4);
        let untouched = ask(&mut params, |asked| {
            assert!(asked.asks(c"wanted") && !asked.asks(c"other"));
            asked.answer_number(c"other", 1)?;
            asked.answer_octets(c"other", &[1])?;
            asked.answer_text(c"other", "1")
        });
        assert_eq!((untouched.unwrap(), value), (usize::MAX, 7));
        // SAFETY: null means that nothing is asked.
        let mut nothing = unsafe { Asked::new(null_mut()) };
        assert!(!nothing.asks(c"wanted"));
        nothing.answer_number(c"wanted", 1).unwrap();
    }

    #[test]
    fn given_bytes_and_texts_are_taken_as_their_types_and_sizes_say() {
        let mut bytes = *b"ab\0c";
        let data = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: ended arrays whose data is what their types and sizes say, alive for as long as they are looked at.
        let given = |params: &[Param; 2]| unsafe {
            let given = Given::new(params.as_ptr());
            (
                given.octets(c"wanted").map(|found| found.map(<[u8]>::to_vec)).map_err(drop),
                given.text(c"wanted").map(|found| found.map(str::to_owned)).map_err(drop),
            )
        };
        assert_eq!(given(&param(OSSL_PARAM_OCTET_STRING, data, 4)), (Ok(Some(b"ab\0c".to_vec())), Err(())));
        assert_eq!(given(&param(OSSL_PARAM_OCTET_STRING, null_mut(), 0)).0, Ok(Some(vec![])));
        assert_eq!(given(&param(OSSL_PARAM_OCTET_STRING, null_mut(), 4)).0, Err(()));
        // Some callers count the null byte, some do not.
        for size in [2, 3, 4] {
            let text = given(&param(OSSL_PARAM_UTF8_STRING, data, size));
            assert_eq!(text, (Err(()), Ok(Some("ab".to_owned()))));
        }
        assert_eq!(given(&param(OSSL_PARAM_UTF8_STRING, null_mut(), 0)).1, Ok(Some(String::new())));
        let mut wrong = [0xff_u8; 2];
        assert_eq!(given(&param(OSSL_PARAM_UTF8_STRING, wrong.as_mut_ptr().cast(), 2)).1, Err(()));
        // SAFETY: null means that nothing is given.
        assert!(unsafe { Given::new(null()) }.octets(c"wanted").unwrap().is_none());
    }
}
