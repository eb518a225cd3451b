//! Dimensions that may be known only at run time.
//!
//! A dimension is a product `num/den · s₁ · s₂ · …` of a rational number and symbols such as the
//! batch size or the latent height. Products are all that image networks need: a stride-2 layer
//! halves the height, flattening an image multiplies height and width, and heads divide a fixed
//! number. Two dimensions are equal if and only if they are the same product, so shape errors are
//! found while building, also for sizes nobody knows yet.

use std::fmt;

/// A size known only at run time, made by [`Graph::symbol`](super::Graph::symbol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(pub(super) u16);

/// What a graph knows about a symbol.
#[derive(Debug, Clone)]
pub(super) struct SymbolInfo {
    /// Name in the ONNX file (`dim_param`).
    pub(super) name: String,
    /// Every value fed at run time is a multiple of this.
    pub(super) multiple_of: u64,
    /// The value that the graph is laid out for; any other works too.
    pub(super) planned: Option<u64>,
}

/// One dimension: a fixed size or a product with symbols.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim {
    num: u64,
    den: u64,
    /// Sorted; a symbol may occur more than once.
    symbols: Vec<Symbol>,
}

impl Dim {
    fn new(num: u64, den: u64, mut symbols: Vec<Symbol>) -> Self {
        let common = gcd(num, den).max(1);
        symbols.sort_unstable();
        Self {
            num: num / common,
            den: den / common,
            symbols,
        }
    }

    /// The size, if it is fixed.
    pub fn fixed(&self) -> Option<u64> {
        self.symbols.is_empty().then_some(self.num)
    }

    /// Whether it is the fixed size `n`.
    pub fn is(&self, n: u64) -> bool {
        self.fixed() == Some(n)
    }

    /// The product of two dimensions.
    pub fn times(&self, other: &Self) -> Self {
        let symbols = self.symbols.iter().chain(&other.symbols).copied().collect();
        Self::new(self.num * other.num, self.den * other.den, symbols)
    }

    /// `self / n` as a product, whether or not it is a whole number.
    pub(super) fn over(&self, n: u64) -> Self {
        Self::new(self.num, self.den * n, self.symbols.clone())
    }

    /// The product as (numerator, denominator, symbols).
    pub(super) fn parts(&self) -> (u64, u64, &[Symbol]) {
        (self.num, self.den, &self.symbols)
    }

    /// Whether it is a whole number for every allowed value of the symbols.
    pub(super) fn is_whole(&self, table: &[SymbolInfo]) -> bool {
        let known: u64 = self
            .symbols
            .iter()
            .map(|s| table[usize::from(s.0)].multiple_of)
            .product();
        (self.num * known).is_multiple_of(self.den)
    }

    /// The number it is for given values of the symbols; nothing if one is unknown.
    pub(super) fn at(&self, value: impl Fn(Symbol) -> Option<u64>) -> Option<u64> {
        let product = self
            .symbols
            .iter()
            .try_fold(self.num, |n, &s| Some(n.saturating_mul(value(s)?)))?;
        Some(product / self.den)
    }

    /// Text such as `4`, `height/2` or `height*width`; the ONNX `dim_param` of an input or output.
    pub(super) fn text(&self, table: &[SymbolInfo]) -> String {
        let mut factors: Vec<String> = self
            .symbols
            .iter()
            .map(|s| table[usize::from(s.0)].name.clone())
            .collect();
        if self.num != 1 || factors.is_empty() {
            factors.insert(0, self.num.to_string());
        }
        let product = factors.join("*");
        if self.den == 1 {
            product
        } else {
            format!("{product}/{}", self.den)
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl From<u64> for Dim {
    fn from(n: u64) -> Self {
        Self::new(n, 1, Vec::new())
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        (n as u64).into()
    }
}

impl From<i32> for Dim {
    /// For literals; a negative size is a programming error and panics.
    fn from(n: i32) -> Self {
        u64::try_from(n)
            .expect("a dimension is not negative")
            .into()
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Self {
        Self::new(1, 1, vec![symbol])
    }
}

impl From<&Dim> for Dim {
    fn from(dim: &Dim) -> Self {
        dim.clone()
    }
}

/// A shape in messages: `[batch_size, 4, height/2]`.
pub(super) struct ShapeText<'a>(pub(super) &'a [Dim], pub(super) &'a [SymbolInfo]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(|d| d.text(self.1)).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_products_are_equal_dimensions() {
        let h = Dim::from(Symbol(0));
        let w = Dim::from(Symbol(1));
        assert_eq!(h.over(2).times(&2.into()), h);
        assert_eq!(h.times(&w), w.times(&h));
        assert_ne!(h.over(2), h);
        assert_eq!(Dim::from(6_u64).over(2), Dim::from(3_u64));
    }

    #[test]
    fn halving_needs_a_symbol_that_is_even() {
        let table = [SymbolInfo {
            name: "height".into(),
            multiple_of: 2,
            planned: None,
        }];
        let h = Dim::from(Symbol(0));
        assert!(h.over(2).is_whole(&table));
        assert!(!h.over(4).is_whole(&table));
        assert_eq!(h.over(2).text(&table), "height/2");
    }
}
