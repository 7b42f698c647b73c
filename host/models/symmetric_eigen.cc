#include "host/models/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace thimble::host {
namespace {

constexpr int kMaxRounds = 60;  // of one value; a few are usual

// sqrt(a*a + b*b): std::hypot() is not the same everywhere.
double Hypotenuse(double a, double b) {
  a = std::abs(a);
  b = std::abs(b);
  if (a < b) std::swap(a, b);
  if (a == 0) return 0;
  const double ratio = b / a;
  return a * std::sqrt(1 + ratio * ratio);
}

// Reduces `a` [n, n] to the diagonal `d` and the one beside it, `e` (e[0] unused), by a sequence of reflections. Leaves
// in the rows of `a` the orthogonal matrix whose rows the reduction is written in.
void Tridiagonalise(std::vector<double>& a, size_t n, std::vector<double>& d, std::vector<double>& e) {
  // Reflections from the last row up; the vector of row i stays in a[i][0..i), its half square norm in d[i].
  std::vector<double> p(n);
  for (size_t i = n; i-- > 1;) {
    double* const u = &a[i * n];
    double scale = 0;
    for (size_t k = 0; k < i; ++k) scale += std::abs(u[k]);
    if (i == 1 || scale == 0) {
      e[i] = u[i - 1];
      d[i] = 0;
      continue;
    }
    double h = 0;
    for (size_t k = 0; k < i; ++k) {
      u[k] /= scale;
      h += u[k] * u[k];
    }
    const double last = u[i - 1];
    const double g = last >= 0 ? -std::sqrt(h) : std::sqrt(h);
    e[i] = scale * g;
    h -= last * g;
    u[i - 1] = last - g;
    // p = A u / h, from the lower triangle.
    std::fill_n(p.begin(), i, 0.0);
    for (size_t j = 0; j < i; ++j) {
      const double* const row = &a[j * n];
      double sum = 0;
      const double uj = u[j];
      for (size_t k = 0; k < j; ++k) {
        sum += row[k] * u[k];
        p[k] += row[k] * uj;
      }
      p[j] += sum + row[j] * uj;
    }
    double along = 0;
    for (size_t j = 0; j < i; ++j) {
      p[j] /= h;
      along += u[j] * p[j];
    }
    const double half = along / (h + h);
    for (size_t j = 0; j < i; ++j) p[j] -= half * u[j];
    for (size_t j = 0; j < i; ++j) {
      double* const row = &a[j * n];
      const double uj = u[j], pj = p[j];
      for (size_t k = 0; k <= j; ++k) row[k] -= uj * p[k] + pj * u[k];
    }
    d[i] = h;
  }
  e[0] = 0;
  d[0] = 0;
  // The product of the reflections, in the rows of the upper left block, which grows.
  for (size_t i = 0; i < n; ++i) {
    double* const u = &a[i * n];
    if (d[i] != 0) {
      // Every row r < i of the matrix so far: r -= (r . u) / h * u.
      for (size_t r = 0; r < i; ++r) {
        double* const row = &a[r * n];
        double g = 0;
        for (size_t k = 0; k < i; ++k) g += row[k] * u[k];
        g /= d[i];
        for (size_t k = 0; k < i; ++k) row[k] -= g * u[k];
      }
    }
    d[i] = u[i];
    std::fill_n(u, n, 0.0);
    u[i] = 1;
    for (size_t r = 0; r < i; ++r) a[r * n + i] = 0;
  }
}

}  // namespace

Eigen SymmetricEigen(std::vector<double> z, size_t n) {
  std::vector<double> d(n), e(n);
  Tridiagonalise(z, n, d, e);
  // e[i] couples i and i + 1 from here on.
  for (size_t i = 1; i < n; ++i) e[i - 1] = e[i];
  if (n > 0) e[n - 1] = 0;
  for (size_t l = 0; l < n; ++l) {
    for (int round = 0; round < kMaxRounds; ++round) {
      size_t m = l;
      while (m + 1 < n) {
        const double beside = std::abs(d[m]) + std::abs(d[m + 1]);
        if (!(std::abs(e[m]) > 0x1p-52 * beside)) break;
        ++m;
      }
      if (m == l) break;
      double g = (d[l + 1] - d[l]) / (2 * e[l]);
      double r = Hypotenuse(g, 1);
      g = d[m] - d[l] + e[l] / (g + (g >= 0 ? r : -r));
      double s = 1, c = 1, shift = 0;
      size_t i = m;
      bool split = false;
      while (i-- > l) {
        const double f = s * e[i];
        const double b = c * e[i];
        r = Hypotenuse(f, g);
        e[i + 1] = r;
        if (r == 0) {
          d[i + 1] -= shift;
          e[m] = 0;
          split = true;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - shift;
        r = (d[i] - g) * s + 2 * c * b;
        shift = s * r;
        d[i + 1] = g + shift;
        g = c * r - b;
        double* const low = &z[i * n];
        double* const high = &z[(i + 1) * n];
        for (size_t k = 0; k < n; ++k) {
          const double was = high[k];
          high[k] = s * low[k] + c * was;
          low[k] = c * low[k] - s * was;
        }
      }
      if (split) continue;
      d[l] -= shift;
      e[l] = g;
      e[m] = 0;
    }
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return d[a] != d[b] ? d[a] > d[b] : a < b; });
  Eigen eigen;
  for (const size_t i : order) {
    eigen.values.push_back(d[i]);
    eigen.vectors.insert(eigen.vectors.end(), z.begin() + static_cast<ptrdiff_t>(i * n),
                         z.begin() + static_cast<ptrdiff_t>((i + 1) * n));
  }
  return eigen;
}

std::vector<double> Inverse(std::vector<double> a, size_t n) {
  std::vector<double> b(n * n);
  for (size_t i = 0; i < n; ++i) b[i * n + i] = 1;
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    for (size_t r = i + 1; r < n; ++r) {
      if (std::abs(a[r * n + i]) > std::abs(a[pivot * n + i])) pivot = r;
    }
    if (!(std::abs(a[pivot * n + i]) > 0)) return {};
    if (pivot != i) {
      for (size_t k = 0; k < n; ++k) {
        std::swap(a[i * n + k], a[pivot * n + k]);
        std::swap(b[i * n + k], b[pivot * n + k]);
      }
    }
    const double inverse = 1 / a[i * n + i];
    for (size_t k = 0; k < n; ++k) {
      a[i * n + k] *= inverse;
      b[i * n + k] *= inverse;
    }
    for (size_t r = 0; r < n; ++r) {
      const double times = a[r * n + i];
      if (r == i || times == 0) continue;
      for (size_t k = i; k < n; ++k) a[r * n + k] -= times * a[i * n + k];
      for (size_t k = 0; k < n; ++k) b[r * n + k] -= times * b[i * n + k];
    }
  }
  return b;
}

}  // namespace thimble::host
