// tests/emulated_cuda/include/emulated_types.h: CUDA's small vectors and dim3, with CUDA's alignments.
#pragma once

#include <cstddef>

namespace emulated {

// Kernels read runs of other types through them.
template <class T, size_t alignment = sizeof(T)>
struct [[gnu::may_alias]] alignas(alignment) Vector1 {
  T x;
};
template <class T, size_t alignment = 2 * sizeof(T)>
struct [[gnu::may_alias]] alignas(alignment) Vector2 {
  T x, y;
};
template <class T>
struct Vector3 {
  T x, y, z;
};
// Of 8-byte elements they are aligned to 16, as CUDA's double4 is.
template <class T, size_t alignment = (sizeof(T) < 8 ? 4 * sizeof(T) : 16)>
struct [[gnu::may_alias]] alignas(alignment) Vector4 {
  T x, y, z, w;
};

}  // namespace emulated

using char2 = emulated::Vector2<signed char>;
using char4 = emulated::Vector4<signed char>;
using uchar2 = emulated::Vector2<unsigned char>;
using uchar4 = emulated::Vector4<unsigned char>;
using short2 = emulated::Vector2<short>;
using short4 = emulated::Vector4<short>;
using ushort2 = emulated::Vector2<unsigned short>;
using ushort4 = emulated::Vector4<unsigned short>;
using int1 = emulated::Vector1<int>;
using int2 = emulated::Vector2<int>;
using int3 = emulated::Vector3<int>;
using int4 = emulated::Vector4<int>;
using uint1 = emulated::Vector1<unsigned>;
using uint2 = emulated::Vector2<unsigned>;
using uint3 = emulated::Vector3<unsigned>;
using uint4 = emulated::Vector4<unsigned>;
using longlong2 = emulated::Vector2<long long>;
using longlong4 = emulated::Vector4<long long>;
using ulonglong2 = emulated::Vector2<unsigned long long>;
using ulonglong4 = emulated::Vector4<unsigned long long>;
using float1 = emulated::Vector1<float>;
using float2 = emulated::Vector2<float>;
using float3 = emulated::Vector3<float>;
using float4 = emulated::Vector4<float>;
using double2 = emulated::Vector2<double>;
using double3 = emulated::Vector3<double>;
using double4 = emulated::Vector4<double>;

constexpr char2 make_char2(signed char x, signed char y) { return {x, y}; }
constexpr char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return {x, y, z, w}; }
constexpr uchar2 make_uchar2(unsigned char x, unsigned char y) { return {x, y}; }
constexpr uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
  return {x, y, z, w};
}
constexpr short2 make_short2(short x, short y) { return {x, y}; }
constexpr short4 make_short4(short x, short y, short z, short w) { return {x, y, z, w}; }
constexpr ushort2 make_ushort2(unsigned short x, unsigned short y) { return {x, y}; }
constexpr ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
  return {x, y, z, w};
}
constexpr int2 make_int2(int x, int y) { return {x, y}; }
constexpr int3 make_int3(int x, int y, int z) { return {x, y, z}; }
constexpr int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
constexpr uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
constexpr uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
constexpr longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
constexpr ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
constexpr float2 make_float2(float x, float y) { return {x, y}; }
constexpr float3 make_float3(float x, float y, float z) { return {x, y, z}; }
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
constexpr double2 make_double2(double x, double y) { return {x, y}; }
constexpr double4 make_double4(double x, double y, double z, double w) { return {x, y, z, w}; }

struct dim3 {
  unsigned x = 1, y = 1, z = 1;

  constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
