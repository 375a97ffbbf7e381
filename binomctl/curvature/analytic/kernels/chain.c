/* A network of linear layers and (leaky) ReLUs in a row under squared error or cross-entropy: for
 * every task, at parameters phi [d] of its own, the loss and its gradient, and products with its
 * Hessian. Each is one call; a task is one thread's from end to end, in its cache.
 *
 * Layer l makes z_l = h_(l-1) W_l^T + b_l and h_l = z_l > 0 ? z_l : slope_l z_l, rows of h being
 * points (h_0 = x). With e_l the gradient of z_l:
 *   gW_l = e_l^T h_(l-1),  e_(l-1) = (e_l W_l) o h'_(l-1);
 * along v = (V, v_b), with t in front of what changes:
 *   tz_l = th_(l-1) W_l^T + h_(l-1) V_l^T + v_b,
 *   tgW_l = te_l^T h_(l-1) + e_l^T th_(l-1),  te_(l-1) = (te_l W_l + e_l V_l) o h'_(l-1).
 * Rows are padded to whole vectors; what stands in the padding of a row stays there. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
/* GCC 12 schedules these loops worse where it tunes them for newer machines (by a seventh on Zen 4). */
#pragma GCC target("tune=haswell")
#endif
/* Half a register of floats: of small layers less is padding, and machines that take one whole
 * register a cycle take two halves. */
#define SMALL_float 1
#define JOINED(a, b) a##b
#define SMALL(real) JOINED(SMALL_, real)
#if defined(__AVX512F__) && SMALL(REAL)
#define VECTOR 32
#endif
#include "common.h"
#include "pool.h"

#include <tgmath.h>

enum { LAYERS = 16, ROWS = 6, COLUMNS = 3 };
enum { SQUARED_ERROR = 0, CROSS_ENTROPY = 1 };

/* T tasks of N points. Layer l has fan[l] inputs and fan[l + 1] outputs; its weight and bias begin
 * at w[l] and b[l] of a task's d parameters (b < 0: none). Labels `ignored` do not count; the loss
 * is a mean over what counts, or a sum. */
typedef struct {
  int64_t T, N, layers, d, loss, mean, ignored;
  int64_t fan[LAYERS + 1], w[LAYERS], b[LAYERS];
  double slope[LAYERS];
} Chain;

INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Numbers that a gradient leaves for products: h and e of every layer, the loss's scale, and of
 * cross-entropy the softmax. */
int64_t chain_kept(const Chain* c) {
  int64_t all = LANES;
  FOR(l, c->layers) all += 2 * c->N * padded(c->fan[l + 1]);
  return all + c->N * padded(c->fan[c->layers]);
}

typedef struct {
  const REAL *a;
  int64_t by_row, by_k;
  const REAL *b; /* rows of a whole number of vectors */
} Product;

/* c [R, V vectors] = the sum of products a [R, k] b [k, V vectors], on top of `start` where it is
 * given: one row for all. */
INLINE void tile(const Product* p, int products, int64_t K, int64_t pitch, const REAL* start,
                 REAL* c, const int R, const int V) {
  vec sum[ROWS][COLUMNS];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) sum[r][v] = start ? load(start + v * LANES) : (vec){0};
  for (int q = 0; q < products; q++) {
    const REAL *a = p[q].a, *b = p[q].b;
    FOR(k, K) {
      vec row[COLUMNS];
      for (int v = 0; v < V; v++) row[v] = load(b + v * LANES);
      for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) sum[r][v] += a[r * p[q].by_row] * row[v];
      a += p[q].by_k;
      b += pitch;
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) store(c + r * pitch + v * LANES, sum[r][v]);
}

INLINE void band(const Product* p, int products, int64_t K, int64_t columns, const REAL* start,
                 REAL* c, const int R) {
  int64_t j = 0;
  Product here[2] = {p[0], p[products - 1]};
#define TILES(V)                                                                     \
  for (; j + V * LANES <= columns; j += V * LANES) {                                 \
    for (int q = 0; q < products; q++) here[q].b = p[q].b + j;                       \
    tile(here, products, K, columns, start ? start + j : start, c + j, R, V);        \
  }
  TILES(3) TILES(2) TILES(1)
#undef TILES
}

/* c [rows, columns] = one or two products with K terms, on top of a row `start` where it is given;
 * columns are a whole number of vectors. */
static void multiply(const Product* p, int products, int64_t rows, int64_t K, int64_t columns,
                     const REAL* start, REAL* c) {
  int64_t r = 0;
  Product here[2] = {p[0], p[products - 1]};
#define BANDS(R)                                                                      \
  for (; r + R <= rows; r += R) {                                                     \
    for (int q = 0; q < products; q++) here[q].a = p[q].a + r * p[q].by_row;          \
    band(here, products, K, columns, start, c + r * columns, R);                      \
  }
  BANDS(6) BANDS(4) BANDS(2) BANDS(1)
#undef BANDS
}

/* A row of n numbers; the last vector of a long one overlaps the one before. */
INLINE void copy(const REAL* from, int64_t n, REAL* to) {
  if (n < LANES) {
    FOR(i, n) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i + LANES < n; i += LANES) store(to + i, load(from + i));
  store(to + n - LANES, load(from + n - LANES));
}

/* Rows of n numbers from one pitch to another. */
INLINE void copy_rows(const REAL* from, int64_t rows, int64_t n, int64_t pitch, int64_t pitch_to,
                      REAL* to) {
  FOR(r, rows) copy(from + r * pitch, n, to + r * pitch_to);
}

/* from [rows, pitch] -> to [pitch, padded rows]. */
static void transpose(const REAL* restrict from, int64_t rows, int64_t pitch, REAL* restrict to) {
  const int64_t to_pitch = padded(rows);
#if defined(__GNUC__) && !defined(__clang__) && !defined(PORTABLE)
  /* Squares of LANES x LANES in registers: at distance s, pairs of rows exchange their halves. */
  typedef __typeof__((vec){0} == (vec){0}) mask; /* whole numbers of REAL's size */
  for (int64_t i = 0; i < to_pitch; i += LANES)
    for (int64_t j = 0; j < pitch; j += LANES) {
      vec r[LANES];
      for (int q = 0; q < LANES; q++) r[q] = load(from + (i + q) * pitch + j);
#pragma GCC unroll 4
      for (int s = 1; s < LANES; s *= 2) {
        mask low, high;
        for (int e = 0; e < LANES; e++) {
          low[e] = e & s ? LANES + e - s : e;
          high[e] = e & s ? LANES + e : e + s;
        }
#pragma GCC unroll 16
        for (int q = 0; q < LANES; q++)
          if (!(q & s)) {
            const vec one = r[q], other = r[q + s];
            r[q] = __builtin_shuffle(one, other, low);
            r[q + s] = __builtin_shuffle(one, other, high);
          }
      }
      for (int q = 0; q < LANES; q++) store(to + (j + q) * to_pitch + i, r[q]);
    }
#else
  FOR(i, rows) FOR(j, pitch) to[j * to_pitch + i] = from[i * pitch + j];
#endif
}

/* A layer's weights, or their tangents: rows of whole vectors, in `room` where they are not so as they
 * stand, and turned. */
typedef struct {
  const REAL* rows;
  REAL *room, *turned;
} Packed;

INLINE void pack(const REAL* w, int64_t out, int64_t in, Packed* to) {
  const int whole = in == padded(in) && out == padded(out);
  if (!whole) copy_rows(w, out, in, in, padded(in), to->room);
  to->rows = whole ? w : to->room;
  transpose(to->rows, out, padded(in), to->turned);
}

/* Where a task's numbers lie. */
typedef struct {
  const REAL *phi, *v;
  Packed W[LAYERS], V[LAYERS];
  REAL *h[LAYERS + 1], *e[LAYERS + 1], *th[LAYERS + 1], *te[LAYERS + 1];
  REAL *scale, *softmax, *block; /* block: a gradient of weights, rows padded */
} Task;

/* Numbers of the largest layer's weights, rows padded. */
static int64_t largest(const Chain* c) {
  int64_t most = 0;
  FOR(l, c->layers) {
    const int64_t size = padded(c->fan[l]) * padded(c->fan[l + 1]);
    most = size > most ? size : most;
  }
  return most;
}

static int64_t work_size(const Chain* c, int products) {
  int64_t all = c->N * padded(c->fan[0]) + largest(c) + chain_kept(c);
  FOR(l, c->layers) {
    const int64_t in = padded(c->fan[l]), out = padded(c->fan[l + 1]);
    all += (1 + products) * 2 * in * out + (products ? 2 * c->N * out : 0);
  }
  return all;
}

static Task laid_out(const Chain* c, const REAL* phi, const REAL* v, REAL* kept, REAL* work) {
  Task t = {.phi = phi, .v = v};
#define TAKE(from, n) ((from) += (n), (from) - (n))
  t.h[0] = TAKE(work, c->N * padded(c->fan[0]));
  FOR(l, c->layers) {
    const int64_t in = padded(c->fan[l]), out = padded(c->fan[l + 1]);
    t.W[l].room = TAKE(work, in * out);
    t.W[l].turned = TAKE(work, in * out);
    if (v) {
      t.V[l].room = TAKE(work, in * out);
      t.V[l].turned = TAKE(work, in * out);
      t.th[l + 1] = TAKE(work, c->N * out);
      t.te[l + 1] = TAKE(work, c->N * out);
    }
  }
  t.block = TAKE(work, largest(c));
  REAL* at = kept ? kept : work;
  t.scale = TAKE(at, LANES);
  FOR(l, c->layers) {
    t.h[l + 1] = TAKE(at, c->N * padded(c->fan[l + 1]));
    t.e[l + 1] = TAKE(at, c->N * padded(c->fan[l + 1]));
  }
  t.softmax = at;
#undef TAKE
  return t;
}

/* to o h', and of z itself h: as torch has it where a number is no number or infinite. */
INLINE void through(const REAL* h, REAL slope, int64_t size, REAL* to) {
  if (slope == 0)
    CHANNELWISE(i, size) to[i] = h[i] <= 0 ? 0 : to[i];
  else if (slope != 1)
    CHANNELWISE(i, size) to[i] = h[i] <= 0 ? slope * to[i] : to[i];
}

/* A bias, or its tangent, as a row of whole vectors; NULL where there is none. */
INLINE const REAL* row_of(const Task* t, int64_t at, const REAL* vector, int64_t n) {
  if (at < 0) return NULL;
  copy(vector + at, n, t->block);
  return t->block;
}

static void forward(const Chain* c, Task* t) {
  FOR(l, c->layers) {
    const int64_t in = c->fan[l], out = c->fan[l + 1], pitch = padded(out);
    pack(t->phi + c->w[l], out, in, &t->W[l]);
    const Product p = {t->h[l], padded(in), 1, t->W[l].turned};
    multiply(&p, 1, c->N, in, pitch, row_of(t, c->b[l], t->phi, out), t->h[l + 1]);
    through(t->h[l + 1], (REAL)c->slope[l], c->N * pitch, t->h[l + 1]);
  }
}

/* e of the outputs and the loss, by squared error. */
static double squared_error(const Chain* c, Task* t, const REAL* y) {
  const int64_t out = c->fan[c->layers], pitch = padded(out);
  const double over = c->mean ? 1.0 / (c->N * out) : 1.0;
  const REAL *h = t->h[c->layers], scale = (REAL)(2 * over);
  REAL* e = t->e[c->layers];
  double sum = 0;
  memset(e, 0, c->N * pitch * sizeof(REAL));
  FOR(n, c->N) FOR(i, out) {
    const REAL gap = h[n * pitch + i] - y[n * out + i];
    sum += (double)gap * gap;
    e[n * pitch + i] = scale * gap;
  }
  t->scale[0] = scale;
  return over * sum;
}

/* The same by cross-entropy; `wrong` where a label is no class. */
static double cross_entropy(const Chain* c, Task* t, const int64_t* y, int* wrong) {
  const int64_t out = c->fan[c->layers], pitch = padded(out);
  const REAL* h = t->h[c->layers];
  REAL* e = t->e[c->layers];
  int64_t counted = 0;
  double sum = 0;
  FOR(n, c->N) {
    counted += y[n] != c->ignored;
    *wrong |= y[n] != c->ignored && (y[n] < 0 || y[n] >= out);
  }
  if (*wrong) return 0;
  const REAL scale = c->mean ? 1 / (REAL)counted : 1;
  memset(e, 0, c->N * pitch * sizeof(REAL));
  FOR(n, c->N) {
    REAL *s = t->softmax + n * pitch, top = h[n * pitch], all = 0;
    const int counts = y[n] != c->ignored;
    for (int64_t i = 1; i < out; i++) top = h[n * pitch + i] > top ? h[n * pitch + i] : top;
    FOR(i, out) all += s[i] = exp(h[n * pitch + i] - top);
    FOR(i, out) {
      s[i] = counts ? s[i] / all : 0;
      e[n * pitch + i] = scale * (counts ? s[i] - (i == y[n]) : 0);
    }
    if (counts) sum += log(all) + top - h[n * pitch + y[n]];
  }
  t->scale[0] = scale;
  return c->mean ? sum / (double)counted : sum;
}

/* The gradient of layer l's parameters, from e_l and, of products, te_l. */
static void gradients(const Chain* c, const Task* t, int64_t l, const Product* p, int products,
                      const REAL* e, REAL* to) {
  const int64_t in = c->fan[l], out = c->fan[l + 1], columns = padded(in), pitch = padded(out);
  REAL* rows = in == columns ? to + c->w[l] : t->block;
  multiply(p, products, out, c->N, columns, NULL, rows);
  if (rows == t->block) copy_rows(rows, out, in, columns, in, to + c->w[l]);
  if (c->b[l] < 0) return;
  REAL* sums = t->block;
  memset(sums, 0, pitch * sizeof(REAL));
  FOR(n, c->N) CHANNELWISE(i, pitch) sums[i] += e[n * pitch + i];
  copy(sums, out, to + c->b[l]);
}

static int gradient_of(const Chain* c, Task* t, const void* y, REAL* loss, REAL* g, REAL* output) {
  const int64_t last = c->layers, pitch = padded(c->fan[last]);
  int wrong = 0;
  forward(c, t);
  copy_rows(t->h[last], c->N, c->fan[last], pitch, c->fan[last], output);
  *loss = (REAL)(c->loss == SQUARED_ERROR ? squared_error(c, t, y)
                                          : cross_entropy(c, t, y, &wrong));
  if (wrong) return 2;
  through(t->h[last], (REAL)c->slope[last - 1], c->N * pitch, t->e[last]);
  for (int64_t l = last - 1; l >= 0; l--) {
    const int64_t in = c->fan[l], out = c->fan[l + 1];
    const Product p = {t->e[l + 1], 1, padded(out), t->h[l]};
    gradients(c, t, l, &p, 1, t->e[l + 1], g);
    if (!l) break;
    const Product q = {t->e[l + 1], padded(out), 1, t->W[l].rows};
    multiply(&q, 1, c->N, out, padded(in), NULL, t->e[l]);
    through(t->h[l], (REAL)c->slope[l - 1], c->N * padded(in), t->e[l]);
  }
  return 0;
}

static void forward_tangents(const Chain* c, Task* t) {
  FOR(l, c->layers) {
    const int64_t in = c->fan[l], out = c->fan[l + 1], pitch = padded(out);
    pack(t->v + c->w[l], out, in, &t->V[l]);
    const Product p[2] = {{t->h[l], padded(in), 1, t->V[l].turned},
                          {t->th[l], padded(in), 1, t->W[l].turned}};
    multiply(p, l ? 2 : 1, c->N, in, pitch, row_of(t, c->b[l], t->v, out), t->th[l + 1]);
    through(t->h[l + 1], (REAL)c->slope[l], c->N * pitch, t->th[l + 1]);
  }
}

/* te of the outputs: what the loss's own Hessian makes of th. */
static void loss_product(const Chain* c, Task* t) {
  const int64_t out = c->fan[c->layers], pitch = padded(out);
  const REAL *th = t->th[c->layers], scale = t->scale[0];
  REAL* te = t->te[c->layers];
  memset(te, 0, c->N * pitch * sizeof(REAL));
  FOR(n, c->N) {
    const REAL *s = t->softmax + n * pitch, *row = th + n * pitch;
    REAL mean = 0;
    if (c->loss == CROSS_ENTROPY) FOR(i, out) mean += s[i] * row[i];
    FOR(i, out)
      te[n * pitch + i] = scale * (c->loss == CROSS_ENTROPY ? s[i] * (row[i] - mean) : row[i]);
  }
  through(t->h[c->layers], (REAL)c->slope[c->layers - 1], c->N * pitch, te);
}

static void product_of(const Chain* c, Task* t, REAL* Hv) {
  forward_tangents(c, t);
  loss_product(c, t);
  for (int64_t l = c->layers - 1; l >= 0; l--) {
    const int64_t in = c->fan[l], out = c->fan[l + 1];
    const Product p[2] = {{t->te[l + 1], 1, padded(out), t->h[l]},
                          {t->e[l + 1], 1, padded(out), t->th[l]}};
    gradients(c, t, l, p, l ? 2 : 1, t->te[l + 1], Hv);
    if (!l) break;
    const Product q[2] = {{t->te[l + 1], padded(out), 1, t->W[l].rows},
                          {t->e[l + 1], padded(out), 1, t->V[l].rows}};
    multiply(q, 2, c->N, out, padded(in), NULL, t->te[l]);
    through(t->h[l], (REAL)c->slope[l - 1], c->N * padded(in), t->te[l]);
  }
}

/* What a call was given; `first` and K of descents, v and Hv of products, points, order and C of
 * expansions: phi and kept of their rows lie at addresses of their own. */
typedef struct {
  const Chain* c;
  REAL *phi, *kept, *losses, *output, *g;
  const REAL *x, *v;
  const void* y;
  const int64_t* points;
  int64_t phi_step, v_step, v_column, columns, K, first, threads, order, C;
  REAL alpha;
} Call;

/* pass(a, 0 .. T - 1), each with work space that its thread's tasks share. */
static int64_t run(Unit pass, const Call* a, int products) {
  const Chain* c = a->c;
  const int64_t descent = c->d + c->N * padded(c->fan[c->layers]), sums = a->order * c->d;
  return share(a->threads, c->T, (work_size(c, products) + descent + sums) * sizeof(REAL), pass, a);
}

/* The gradient of task t at phi, with what it leaves. */
static int gradient_at(const Call* a, int64_t t, const REAL* phi, REAL* loss, REAL* g, REAL* output,
                       REAL* kept, REAL* work) {
  const Chain* c = a->c;
  const int64_t in = c->fan[0], points = t * c->N;
  Task here = laid_out(c, phi, NULL, kept, work);
  copy_rows(a->x + points * in, c->N, in, in, padded(in), here.h[0]);
  const void* y = c->loss == CROSS_ENTROPY
                      ? (const void*)((const int64_t*)a->y + points)
                      : (const void*)((const REAL*)a->y + points * c->fan[c->layers]);
  return gradient_of(c, &here, y, loss, g, output);
}

static int gradient_pass(const void* arg, int64_t t, void* work) {
  const Call* a = arg;
  const Chain* c = a->c;
  return gradient_at(a, t, a->phi + t * a->phi_step, a->losses + t, a->g + t * c->d,
                     a->output + t * c->N * c->fan[c->layers],
                     a->kept ? a->kept + t * chain_kept(c) : NULL, work);
}

static int descent_pass(const void* arg, int64_t t, void* work) {
  const Call* a = arg;
  const Chain* c = a->c;
  const int64_t room = chain_kept(c);
  REAL *g = work, *output = g + c->d, *rest = output + c->N * padded(c->fan[c->layers]);
  int failed = 0;
  FOR(k, a->K) {
    REAL *phi = a->phi + (k * c->T + t) * c->d, *after = phi + c->T * c->d;
    REAL* kept = a->kept && k >= a->first ? a->kept + ((k - a->first) * c->T + t) * room : NULL;
    const int code = gradient_at(a, t, phi, a->losses + k * c->T + t, g, output, kept, rest);
    failed = code > failed ? code : failed;
    CHANNELWISE(i, c->d) after[i] = phi[i] - a->alpha * g[i];
  }
  return failed;
}

static int product_pass(const void* arg, int64_t t, void* work) {
  const Call* a = arg;
  const Chain* c = a->c;
  const int64_t in = c->fan[0];
  const REAL* v = a->v + t * a->v_step;
  Task here = laid_out(c, a->phi + t * a->phi_step, v, a->kept + t * chain_kept(c), work);
  copy_rows(a->x + t * c->N * in, c->N, in, in, padded(in), here.h[0]);
  FOR(l, c->layers) pack(here.phi + c->w[l], c->fan[l + 1], c->fan[l], &here.W[l]);
  FOR(p, a->columns) {
    here.v = v + p * a->v_column;
    product_of(c, &here, a->g + (t * a->columns + p) * c->d);
  }
  return 0;
}

/* S_L of the binomial expansion: S_j(k) = S_j(k + 1) - alpha H_k S_{j-1}(k + 1), S_j(K) = g, over
 * the last C points, one H_k at a time for all orders j that it is owed. Orders from the number of
 * rows met on are the same; orders that no later row leads to L are left behind. */
static int expansion_pass(const void* arg, int64_t t, void* work) {
  const Call* a = arg;
  const Chain* c = a->c;
  const int64_t in = c->fan[0], L = a->order, d = c->d;
  const REAL* g = a->v + t * a->v_step;
  REAL *S = work, *Hv = S + L * d, *rest = Hv + d; /* S_j at S + (j - 1) d */
  for (int64_t met = 1; met <= a->C; met++) {
    const int64_t row = a->C - met, top = met < L ? met : L, low = L - row > 1 ? L - row : 1;
    const REAL* phi = (const REAL*)a->points[2 * row] + t * a->phi_step;
    REAL* kept = (REAL*)a->points[2 * row + 1] + t * chain_kept(c);
    Task here = laid_out(c, phi, g, kept, rest);
    if (met == 1) copy_rows(a->x + t * c->N * in, c->N, in, in, padded(in), here.h[0]);
    FOR(l, c->layers) pack(phi + c->w[l], c->fan[l + 1], c->fan[l], &here.W[l]);
    for (int64_t j = top; j >= low; j--) {
      const REAL* below = j > 1 ? S + (j - 2) * d : g;
      REAL* to = S + (j - 1) * d;
      here.v = below;
      product_of(c, &here, Hv);
      const REAL* before = j < met ? to : below;
      CHANNELWISE(i, d) to[i] = before[i] - a->alpha * Hv[i];
    }
  }
  copy(S + (L - 1) * d, d, a->g + t * d);
  return 0;
}

/* The calls return 0; 1: no memory; 2: a label is no class. x [T, N, in], y [T, N, out] or labels
 * [T, N]; kept [T, chain_kept], or NULL. */

/* Losses [T], gradients [T, d] and outputs [T, N, out] at phi, whose tasks lie phi_step apart. */
int64_t chain_gradient(const Chain* c, int64_t threads, REAL* phi, int64_t phi_step, const REAL* x,
                       const void* y, REAL* losses, REAL* g, REAL* output, REAL* kept) {
  const Call a = {.c = c, .threads = threads, .phi = phi, .phi_step = phi_step, .x = x, .y = y,
                  .losses = losses, .g = g, .output = output, .kept = kept};
  return run(gradient_pass, &a, 0);
}

/* K steps of gradient descent along path [K + 1, T, d], whose first point is given: losses [K, T],
 * and kept [K - first, T, chain_kept] from step `first` on, or NULL. */
int64_t chain_descend(const Chain* c, int64_t threads, REAL* path, int64_t K, const double* alpha,
                      const REAL* x, const void* y, REAL* losses, REAL* kept, int64_t first) {
  const Call a = {.c = c, .threads = threads, .phi = path, .K = K, .alpha = (REAL)*alpha, .x = x,
                  .y = y, .losses = losses, .kept = kept, .first = first};
  return run(descent_pass, &a, 0);
}

/* H v for v [T, columns, d] at the phi and x of the gradients that left `kept`: Hv of the same
 * shape, one task behind the other; tasks of v lie v_step apart, their columns v_column. */
int64_t chain_product(const Chain* c, int64_t threads, REAL* phi, int64_t phi_step, const REAL* x,
                      REAL* kept, const REAL* v, int64_t columns, int64_t v_step, int64_t v_column,
                      REAL* Hv) {
  const Call a = {.c = c, .threads = threads, .phi = phi, .phi_step = phi_step, .x = x,
                  .kept = kept, .v = v, .columns = columns, .v_step = v_step,
                  .v_column = v_column, .g = Hv};
  return run(product_pass, &a, 1);
}

/* S_L [T, d] of g [T, d], whose tasks lie g_step apart, 1 <= order L <= C: points holds, for each of
 * the last C, the address of phi and of what the gradient there left. */
int64_t chain_expand(const Chain* c, int64_t threads, const int64_t* points, int64_t C,
                     int64_t phi_step, const REAL* x, const REAL* g, int64_t g_step, int64_t order,
                     const double* alpha, REAL* sum) {
  const Call a = {.c = c, .threads = threads, .points = points, .C = C, .phi_step = phi_step,
                  .x = x, .v = g, .v_step = g_step, .order = order, .alpha = (REAL)*alpha,
                  .g = sum};
  return run(expansion_pass, &a, 1);
}
