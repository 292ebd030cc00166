/* The usual way from a mesh to sets, written plainly for comparison: read a binary PLY record by record, normals, edges,
 * a comparison sort, Felzenszwalb's union-find, and the sets as JSON. The method and its constants are those of ScanNet's
 * Segmentator (ScanNet/ScanNet 3830fce, Segmentator/segmentator.cpp); equal weights are taken in the order of the edges.
 *
 *   cc -O3 segmentator.c -o segmentator -lm && ./segmentator mesh.ply sets.json
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int a, b, number; float w; } Edge;
typedef struct { int parent, rank, size; } Set;

static Edge *edges;
static Set *sets;

static int by_weight(const void *left, const void *right) {
    const Edge *l = left, *r = right;
    if (l->w != r->w) return l->w < r->w ? -1 : 1;
    return l->number < r->number ? -1 : 1;
}

static int find(int x) {
    int root = x;
    while (root != sets[root].parent) root = sets[root].parent;
    sets[x].parent = root;
    return root;
}

static void join(int a, int b) {
    if (sets[a].rank > sets[b].rank) {
        sets[b].parent = a;
        sets[a].size += sets[b].size;
    } else {
        sets[a].parent = b;
        sets[b].size += sets[a].size;
        if (sets[a].rank == sets[b].rank) sets[b].rank++;
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *file = fopen(argv[1], "rb");
    char line[256];
    long n = 0, t = 0, stride = 0;
    int in_vertex = 0;
    while (file && fgets(line, sizeof line, file) && strncmp(line, "end_header", 10)) {
        char kind[64];
        if (sscanf(line, "element vertex %ld", &n) == 1) in_vertex = 1;
        else if (sscanf(line, "element face %ld", &t) == 1) in_vertex = 0;
        else if (in_vertex && sscanf(line, "property %63s", kind) == 1)
            stride += !strcmp(kind, "float") ? 4 : !strcmp(kind, "uchar") ? 1 : 2;
    }
    if (!n || !t) return 1;
    float *xyz = malloc(12 * n), *normal = calloc(3 * n, 4), *count = calloc(n, 4);
    for (long i = 0; i < n; i++) {
        char record[64];
        if (fread(record, stride, 1, file) != 1) return 1;
        memcpy(xyz + 3 * i, record, 12);
    }
    edges = malloc(3 * t * sizeof(Edge));
    for (long f = 0; f < t; f++) {
        uint8_t corners;
        int32_t v[3];
        if (fread(&corners, 1, 1, file) != 1 || corners != 3 || fread(v, 4, 3, file) != 3) return 1;
        float *p = xyz + 3 * v[0], *q = xyz + 3 * v[1], *r = xyz + 3 * v[2];
        float ax = q[0] - p[0], ay = q[1] - p[1], az = q[2] - p[2];
        float bx = r[0] - p[0], by = r[1] - p[1], bz = r[2] - p[2];
        float c[3] = {ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx};
        float length = sqrtf(c[0] * c[0] + c[1] * c[1] + c[2] * c[2]);
        edges[3 * f] = (Edge){v[0], v[1], 3 * f, 0};
        edges[3 * f + 1] = (Edge){v[0], v[2], 3 * f + 1, 0};
        edges[3 * f + 2] = (Edge){v[2], v[1], 3 * f + 2, 0};
        if (!(length > 0 && length < INFINITY)) continue;
        for (int m = 0; m < 3; m++) {
            float now = 1 / (count[v[m]] + 1), before = 1 - now;
            for (int axis = 0; axis < 3; axis++)
                normal[3 * v[m] + axis] = now * (c[axis] / length) + before * normal[3 * v[m] + axis];
            count[v[m]] += 1;
        }
    }
    fclose(file);
    for (long e = 0; e < 3 * t; e++) {
        float *p = xyz + 3 * edges[e].a, *q = xyz + 3 * edges[e].b;
        float *m = normal + 3 * edges[e].a, *o = normal + 3 * edges[e].b;
        float w = 1 - (m[0] * o[0] + m[1] * o[1] + m[2] * o[2]);
        float dx = q[0] - p[0], dy = q[1] - p[1], dz = q[2] - p[2];
        float length = sqrtf(dx * dx + dy * dy + dz * dz);
        if (o[0] * (dx / length) + o[1] * (dy / length) + o[2] * (dz / length) > 0) w = w * w;
        edges[e].w = w;
    }
    qsort(edges, 3 * t, sizeof(Edge), by_weight);
    sets = malloc(n * sizeof(Set));
    float *threshold = malloc(4 * n);
    for (int i = 0; i < n; i++) sets[i] = (Set){i, 0, 1}, threshold[i] = 0.01f;
    for (long e = 0; e < 3 * t; e++) {
        int a = find(edges[e].a), b = find(edges[e].b);
        if (a == b || edges[e].w > threshold[a] || edges[e].w > threshold[b]) continue;
        join(a, b);
        a = find(a);
        threshold[a] = edges[e].w + 0.01f / sets[a].size;
    }
    for (long e = 0; e < 3 * t; e++) {
        int a = find(edges[e].a), b = find(edges[e].b);
        if (a != b && (sets[a].size < 20 || sets[b].size < 20)) join(a, b);
    }
    file = fopen(argv[2], "w");
    fputs("{\"segIndices\":[", file);
    for (int i = 0; i < n; i++) fprintf(file, i ? ",%d" : "%d", find(i));
    fputs("]}", file);
    return fclose(file) != 0;
}
