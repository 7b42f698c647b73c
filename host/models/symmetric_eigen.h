// Eigenvalues of symmetric matrices, with the same bits on every computer: +, -, *, / and square roots of doubles in
// one order, which no library promises.
#ifndef THIMBLE_HOST_MODELS_SYMMETRIC_EIGEN_H_
#define THIMBLE_HOST_MODELS_SYMMETRIC_EIGEN_H_

#include <cstddef>
#include <vector>

namespace thimble::host {

struct Eigen {
  std::vector<double> values;   // [n], falling
  std::vector<double> vectors;  // [n, n]: the i-th row belongs to the i-th value; orthonormal but for rounding
};

// Of the symmetric `matrix` [n, n]: Householder's reduction to three diagonals, then the QL algorithm with implicit
// shifts (R. S. Martin, J. H. Wilkinson, Numer. Math. 11, 1968; A. Dubrulle, Numer. Math. 15, 1970). A matrix of
// numbers that are not finite gives some of these. O(n^3).
Eigen SymmetricEigen(std::vector<double> matrix, size_t n);

// The inverse of `matrix` [n, n], by Gauss and Jordan with partial pivoting; empty if a pivot is 0.
std::vector<double> Inverse(std::vector<double> matrix, size_t n);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SYMMETRIC_EIGEN_H_
